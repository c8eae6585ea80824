import test from 'ava'
import type { NativeDrawOptions } from '../../types/native-models.d.ts'
import type { Device, Generator } from '../../lib/index.ts'
import { openTextSession } from '../../lib/model/sessions.ts'
import { lively, logProbability, randomBatch, refuses } from './helpers.ts'

const plain: NativeDrawOptions = { seed: 5, temperature: 1, topK: 0, topP: 1 }
const [pad, cls, sep] = [0, 1, 2]
const banned = Int32Array.of(pad, cls)

interface Text {
  tokens: Int32Array
  logProbability: number
  ended: boolean
}

function picture(generator: Generator, seed: number): Int32Array {
  return randomBatch(generator.config, 1, seed).image
}

const none = new Int32Array()

async function describe(
  generator: Generator,
  image: Int32Array,
  rows: number,
  options: { beamSearch?: boolean; lengthPenalty?: number; banned?: Int32Array; given?: Int32Array },
  draw = plain,
  steps: readonly number[] = [1, 2, 1000],
): Promise<Text[]> {
  const all = { beamSearch: false, lengthPenalty: 0, cls, sep, banned, given: none, ...options }
  const session = openTextSession(generator, image, rows, all, draw)
  try {
    for (let i = 0; ; i++) if ((await session.step(steps[i % steps.length]!)).done) return session.texts()
  } finally {
    session.dispose()
  }
}

/**
 * log P(token | picture, tokens before) of every token, by the full forward; banned ones have no share, nor has SEP as the first.
 * Returns M - 1 rows of textVocab: row j predicts what comes after the first j tokens.
 */
async function table(
  generator: Generator,
  image: Int32Array,
  tokens: readonly number[],
): Promise<number[][]> {
  const { textLength, textVocab } = generator.config
  const text = Int32Array.from({ length: textLength }, (_, j) => (j === 0 ? cls : (tokens[j - 1] ?? pad)))
  // one more than is there, as forward() wants something to predict; no row looks ahead
  const textValid = text.map((_, j) => (j <= tokens.length + 1 ? 1 : 0))
  const batch = { text, textValid: Uint8Array.from(textValid), image }
  const { logits } = await generator.forward(batch, { direction: 'image-to-text' })
  return Array.from({ length: tokens.length + 1 }, (_, j) => {
    const row = logits.slice(j * textVocab, (j + 1) * textVocab)
    for (const id of banned) row[id] = -Infinity
    if (j === 0) row[sep] = -Infinity
    return Array.from(row, (_, v) => logProbability(row, 0, textVocab, v))
  })
}

async function score(generator: Generator, image: Int32Array, { tokens, ended }: Text): Promise<number> {
  const said = ended ? [...tokens, sep] : [...tokens]
  // forward has room for M - 1 tokens after CLS; the last one predicted is not read
  const rows = await table(generator, image, said.slice(0, generator.config.textLength - 1))
  return said.reduce((sum, token, j) => sum + rows[j]![token]!, 0)
}

for (const device of ['cpu', 'ref'] as Device[]) {
  for (const attention of ['sparse', 'full'] as const) {
    for (let grid = 1; grid <= 5; grid++) {
      test.serial(
        `${device}: ${attention} attention, grid ${grid}: cached decoding is the full forward`,
        async (t) => {
          const generator = await lively(t, { attention, grid, kernel: 3 }, { device, seed: grid })
          for (const seed of [1, 2]) {
            const image = picture(generator, seed)
            const texts = await describe(generator, image, 4, {})
            t.is(texts.length, 4)
            for (const text of texts) {
              const expected = await score(generator, image, text)
              const error = Math.abs(text.logProbability - expected)
              t.true(error < 1e-4 * Math.max(1, Math.abs(expected)), `${text.logProbability} ${expected}`)
              t.false(text.tokens.some((token) => token === sep || banned.includes(token)))
              t.is(text.ended, text.tokens.length < generator.config.textLength - 1)
            }
          }
        },
      )
    }
  }
}

test('greedy is the most probable token each time, and a beam search of width 1', async (t) => {
  for (const seed of [1, 2, 3, 4]) {
    const generator = await lively(t, {}, { seed })
    const image = picture(generator, seed)
    const [greedy] = await describe(generator, image, 1, {}, { ...plain, temperature: 0 })
    const [beam] = await describe(generator, image, 1, { beamSearch: true })
    t.deepEqual(beam!.tokens, greedy!.tokens)
    t.is(beam!.ended, greedy!.ended)
    t.true(Math.abs(beam!.logProbability - greedy!.logProbability) < 1e-5)
    const rows = await table(generator, image, [...greedy!.tokens])
    greedy!.tokens.forEach((token, j) => t.is(token, rows[j]!.indexOf(Math.max(...rows[j]!))))
  }
})

/** Every text that can be said, with its probability. */
async function allTexts(generator: Generator, image: Int32Array): Promise<Text[]> {
  const { textLength, textVocab } = generator.config
  const found: Text[] = []
  const grow = async (tokens: number[], logP: number): Promise<void> => {
    if (tokens.length === textLength - 1) {
      found.push({ tokens: Int32Array.from(tokens), logProbability: logP, ended: false })
      return
    }
    const row = (await table(generator, image, tokens)).at(-1)!
    for (let v = 0; v < textVocab; v++) {
      if (row[v] === -Infinity) continue
      if (v === sep) {
        found.push({ tokens: Int32Array.from(tokens), logProbability: logP + row[v]!, ended: true })
      } else {
        await grow([...tokens, v], logP + row[v]!)
      }
    }
  }
  await grow([], 0)
  return found
}

for (const lengthPenalty of [0, 0.7, -0.5]) {
  test(`a beam as wide as the vocabulary finds the best text of all, length penalty ${lengthPenalty}`, async (t) => {
    // 4 words and SEP, at most 3 tokens: 4 + 16 + 64 prefixes, of which a width of 64 loses none
    for (const seed of [1, 2]) {
      const generator = await lively(t, { textVocab: 7, textLength: 4, grid: 2, layers: 3 }, { seed })
      const image = picture(generator, seed)
      const quality = ({ tokens, logProbability: p, ended }: Text) =>
        p / Math.max(1, tokens.length + Number(ended)) ** lengthPenalty
      const best = (await allTexts(generator, image)).sort((a, b) => quality(b) - quality(a))
      const beams = await describe(generator, image, 64, { beamSearch: true, lengthPenalty })
      t.true(beams.length >= 20)
      for (let i = 0; i < 20; i++) {
        t.deepEqual([...beams[i]!.tokens], [...best[i]!.tokens], `place ${i}`)
        t.is(beams[i]!.ended, best[i]!.ended)
        t.true(Math.abs(beams[i]!.logProbability - best[i]!.logProbability) < 1e-4)
      }
    }
  })
}

test('a narrow beam search is what its definition says', async (t) => {
  const width = 3
  for (const seed of [1, 2, 3, 4, 5]) {
    const generator = await lively(t, { textVocab: 12 }, { seed })
    const image = picture(generator, seed)
    const limit = generator.config.textLength - 1
    // by the book: the width best prefixes of each length, ended texts aside; the width best of both
    let live: Text[] = [{ tokens: new Int32Array(), logProbability: 0, ended: false }]
    let ended: Text[] = []
    for (let j = 0; j < limit; j++) {
      const next: Text[] = []
      for (const text of live) {
        const row = (await table(generator, image, [...text.tokens])).at(-1)!
        row.forEach((p, token) => {
          if (p === -Infinity) return
          const tokens = token === sep ? text.tokens : Int32Array.of(...text.tokens, token)
          next.push({ tokens, logProbability: text.logProbability + p, ended: token === sep })
        })
      }
      next.sort((a, b) => b.logProbability - a.logProbability)
      const kept = next.filter((text) => !text.ended).slice(0, width)
      const worst = kept.at(-1)!.logProbability
      // an end counts where it is among those that a beam of this width looks at
      ended.push(...next.filter((text) => text.ended && text.logProbability >= worst))
      ended = ended.sort((a, b) => b.logProbability - a.logProbability).slice(0, width)
      live = kept
      if (ended.length === width && ended.at(-1)!.logProbability >= live[0]!.logProbability) break
    }
    const expected = [...ended, ...live].sort((a, b) => b.logProbability - a.logProbability)
    const beams = await describe(generator, image, width, { beamSearch: true })
    t.is(beams.length, width)
    beams.forEach((beam, i) => {
      t.deepEqual([...beam.tokens], [...expected[i]!.tokens], `seed ${seed}, place ${i}`)
      t.is(beam.ended, expected[i]!.ended)
      t.true(Math.abs(beam.logProbability - expected[i]!.logProbability) < 1e-4)
    })
  }
})

test('a text does not depend on how many are drawn with it, nor on the steps', async (t) => {
  const generator = await lively(t)
  const image = picture(generator, 1)
  const six = await describe(generator, image, 6, {})
  const two = await describe(generator, image, 2, {}, plain, [100])
  t.deepEqual(two, six.slice(0, 2))
  t.true(new Set(six.map(({ tokens }) => tokens.join())).size > 2)
})

test('the shortest text length, the smallest vocabulary', async (t) => {
  const generator = await lively(t, { textLength: 2, textVocab: 4, grid: 1, layers: 1, kernel: 1 })
  const image = picture(generator, 1)
  for (const beamSearch of [true, false]) {
    const texts = await describe(generator, image, 5, { beamSearch })
    // the only word there is, cut before it could end
    t.is(texts.length, beamSearch ? 1 : 5)
    for (const text of texts) t.deepEqual(text, { tokens: Int32Array.of(3), logProbability: 0, ended: false })
  }
})

for (const device of ['cpu', 'ref'] as Device[]) {
  test(`${device}: a text has a token even where the model would end at once`, async (t) => {
    const generator = await lively(t, {}, { device, likely: { [sep]: 30 } })
    const image = picture(generator, 1)
    const modes: [string, Parameters<typeof describe>[3], NativeDrawOptions?][] = [
      ['greedy', {}, { ...plain, temperature: 0 }],
      ['sampled', {}],
      ['the first of all', {}, { ...plain, topK: 1 }],
      ['the first share', {}, { ...plain, topP: 0.01 }],
      ['beams', { beamSearch: true }],
      ['beams, long ones first', { beamSearch: true, lengthPenalty: 1 }],
      ['beams, short ones first', { beamSearch: true, lengthPenalty: -1 }],
    ]
    for (const [name, options, draw] of modes) {
      const texts = await describe(generator, image, 4, options, draw)
      t.is(texts.length, 4)
      for (const text of texts) {
        t.is(text.tokens.length, 1, name)
        t.true(text.ended, name)
        const expected = await score(generator, image, text)
        t.true(Math.abs(text.logProbability - expected) < 1e-4 * Math.max(1, Math.abs(expected)), name)
      }
    }
  })
}

test('what a session is not given is refused', async (t) => {
  const generator = await lively(t)
  const image = picture(generator, 1)
  const options = { beamSearch: false, lengthPenalty: 0, cls, sep, banned, given: none }
  const open = (changes: object, other: { image?: Int32Array; rows?: number } = {}) => {
    const { image: pixels = image, rows = 1 } = other
    return async () => openTextSession(generator, pixels, rows, { ...options, ...changes }, plain)
  }
  await refuses(t, open({}, { image: image.slice(1) }), 'ERR_VILG_SHAPE_MISMATCH', '9')
  await refuses(t, open({}, { image: image.map(() => 23) }), 'ERR_VILG_INVALID_ARGUMENT', '23')
  await refuses(t, open({ cls: 19 }), 'ERR_VILG_INVALID_ARGUMENT', '19')
  await refuses(t, open({ sep: -1 }), 'ERR_VILG_INVALID_ARGUMENT')
  await refuses(t, open({ banned: Int32Array.of(400) }), 'ERR_VILG_INVALID_ARGUMENT', '400')
  const words = Int32Array.from({ length: 19 }, (_, id) => id).filter((id) => id !== sep)
  await refuses(t, open({ banned: words }), 'ERR_VILG_INVALID_ARGUMENT', 'begin a text')
  await refuses(t, open({ given: Int32Array.of(19) }), 'ERR_VILG_INVALID_ARGUMENT', 'given id')
  await refuses(t, open({ given: new Int32Array(100) }), 'ERR_VILG_INVALID_ARGUMENT', 'given tokens')
  await refuses(t, open({ lengthPenalty: NaN }), 'ERR_VILG_INVALID_ARGUMENT', 'NaN')
  await refuses(t, open({}, { rows: 0 }), 'ERR_VILG_INVALID_ARGUMENT')
  await refuses(t, open({}, { rows: 65 }), 'ERR_VILG_INVALID_ARGUMENT', '64')
})

test('texts cannot be read while a step runs', async (t) => {
  const generator = await lively(t, { grid: 5, layers: 8, hidden: 96 })
  const options = { beamSearch: false, lengthPenalty: 0, cls, sep, banned, given: none }
  const session = openTextSession(generator, picture(generator, 1), 64, options, plain)
  const step = session.step(100)
  t.throws(() => session.texts(), { code: 'ERR_VILG_BUSY' })
  await step
  t.is(session.texts().length, 64)
  session.dispose()
  t.throws(() => session.texts(), { code: 'ERR_VILG_DISPOSED' })
})
