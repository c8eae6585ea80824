import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import {
  backendInfo,
  type GeneratedImage,
  likelihoodReranker,
  type ProgressEvent,
  readImage,
  Sampler,
  setThreads,
  type TextToImageOptions,
} from '../../lib/index.ts'
import { refuses, temporaryFolder } from '../model/helpers.ts'
import { essence, tinyBundle } from './bundle.ts'

const prompt = '红苹果'

test('a picture has its pixels, tokens, seed and log-probability', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const images = await sampler.textToImage(prompt, { seed: 7 })
  t.is(images.length, 1)
  const image = images[0]!
  t.is(image.width, 8)
  t.is(image.height, 8)
  t.is(image.pixels.length, 8 * 8 * 3)
  t.is(image.tokens.length, 16)
  t.is(image.seed, 7)
  t.is(image.candidate, 0)
  t.is(image.score, undefined)
  const { generator, textTokenizer } = sampler.model
  const { ids, valid } = textTokenizer.encode(prompt, { length: generator.config.textLength })
  const batch = { text: ids, textValid: valid, image: image.tokens }
  const { loss } = await generator.forward(batch, { direction: 'text-to-image' })
  t.true(Math.abs(image.logProbability + loss * 16) < 1e-3 * 16, `${image.logProbability} ${loss * 16}`)
})

test('the file is the picture', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const [image] = await sampler.textToImage(prompt, { seed: 7 })
  const path = join(await temporaryFolder(t), 'a', 'image.png')
  await image!.toFile(path)
  t.deepEqual((await readImage(path, { size: 8 })).pixels, image!.pixels)
  t.deepEqual(await readFile(path), await image!.png())
  const large = await readImage(await image!.png({ scale: 3 }), { size: 24 })
  t.deepEqual(
    large.pixels.slice(0, 9),
    Uint8Array.from({ length: 9 }, (_, i) => image!.pixels[i % 3]!),
  )
  await refuses(t, image!.png({ scale: NaN }), 'ERR_VILG_INVALID_ARGUMENT')
  await refuses(t, image!.png({ size: 3 } as object), 'ERR_VILG_INVALID_ARGUMENT', 'size')
})

for (const precision of ['float32', 'bfloat16'] as const) {
  test.serial(
    `${precision}: a seed gives the same candidates whatever is drawn beside and the threads`,
    async (t) => {
      const before = backendInfo().threads
      t.teardown(() => setThreads(before))
      const sampler = new Sampler(await tinyBundle(t, { precision }))
      const nine = await sampler.textToImage(prompt, { count: 9, seed: 3 })
      const distinct = new Set(nine.map((image) => image.tokens.join()))
      t.true(distinct.size > 4, `${distinct.size} different candidates`)
      t.deepEqual(
        nine.map(({ candidate }) => candidate),
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
      )
      for (const [count, threads] of [
        [1, 1],
        [5, 2],
        [9, 3],
      ] as const) {
        setThreads(threads)
        const some = await sampler.textToImage(prompt, { count, seed: 3 })
        t.deepEqual(
          some.map(essence),
          nine.slice(0, count).map(essence),
          `${count} candidates, ${threads} threads`,
        )
      }
      const other = await sampler.textToImage(prompt, { count: 9, seed: 4 })
      t.notDeepEqual(other.map(essence), nine.map(essence))
    },
  )
}

test('more candidates than a session has rows are those of several', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const many = await sampler.textToImage(prompt, { count: 70, seed: 3 })
  t.is(many.length, 70)
  const few = await sampler.textToImage(prompt, { count: 66, seed: 3 })
  t.deepEqual(few.map(essence), many.slice(0, 66).map(essence))
  t.notDeepEqual(many[64]!.tokens, many[0]!.tokens) // the second session does not begin the streams anew
})

test('without a seed, two calls differ and say what seed they had', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const [one] = await sampler.textToImage(prompt)
  const [two] = await sampler.textToImage(prompt)
  t.not(one!.seed, two!.seed)
  const [again] = await sampler.textToImage(prompt, { seed: one!.seed })
  t.is(essence(again!), essence(one!))
})

test('temperature 0 draws one picture; topK 1 and a tiny topP are the same', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const greedy = await sampler.textToImage(prompt, { count: 3, temperature: 0 })
  t.is(new Set(greedy.map(essence)).size, 1)
  for (const options of [{ topK: 1 }, { topP: 1e-6 }]) {
    const [image] = await sampler.textToImage(prompt, { ...options, temperature: 1, seed: 5 })
    t.deepEqual(image!.tokens, greedy[0]!.tokens)
  }
})

test("the bundle's defaults count where a call says nothing", async (t) => {
  const plain = new Sampler(await tinyBundle(t))
  const greedy = new Sampler(await tinyBundle(t, { samplingDefaults: { temperature: 0, topK: 0, topP: 1 } }))
  const [expected] = await plain.textToImage(prompt, { temperature: 0 })
  t.is(essence((await greedy.textToImage(prompt, { seed: 9 }))[0]!), essence(expected!))
  const [drawn] = await plain.textToImage(prompt, { seed: 9 })
  t.is(essence((await greedy.textToImage(prompt, { seed: 9, temperature: 1 }))[0]!), essence(drawn!))
})

test("best: the model's own likelihood of the prompt decides", async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const { generator, textTokenizer } = sampler.model
  const all = await sampler.textToImage(prompt, { count: 20, seed: 3 }) // more than one pass of the reranker
  const { ids, valid } = textTokenizer.encode(prompt, { length: generator.config.textLength })
  const scored = await Promise.all(
    all.map(async (image) => {
      const batch = { text: ids, textValid: valid, image: image.tokens }
      const { loss } = await generator.forward(batch, { direction: 'image-to-text' })
      return { image, score: -loss * 4 } // three characters and SEP
    }),
  )
  scored.sort((a, b) => b.score - a.score)
  const best = await sampler.textToImage(prompt, { count: 20, best: 3, seed: 3 })
  t.is(best.length, 3)
  best.forEach((image, i) => {
    t.true(Math.abs(image.score! - scored[i]!.score) < 1e-3, `${image.score} ${scored[i]!.score}`)
    t.is(essence(image), essence(scored[i]!.image))
  })
  const scores = Array.from(await likelihoodReranker(sampler.model).score(prompt, all, {}))
  t.is(best[0]!.score, Math.max(...scores))
})

test('a reranker of the caller decides; equal scores keep their order', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const asked: string[] = []
  const reranker = {
    score(text: string, images: readonly GeneratedImage[]) {
      asked.push(text)
      return images.map(({ candidate }) => candidate % 3)
    },
  }
  const images = await sampler.textToImage(prompt, { count: 7, best: 4, seed: 3, reranker })
  t.deepEqual(asked, [prompt])
  t.deepEqual(
    images.map(({ candidate, score }) => [candidate, score]),
    [
      [2, 2],
      [5, 2],
      [1, 1],
      [4, 1],
    ],
  )
})

test('a reranker that fails or gives no scores rejects the call', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const options = { count: 2, best: 1 }
  const reason = new Error('no')
  const throwing = { score: () => Promise.reject(reason) }
  t.is(await t.throwsAsync(sampler.textToImage(prompt, { ...options, reranker: throwing })), reason)
  for (const scores of [[1], [1, NaN], [1, 2, 3], ['1', '2'], null, undefined, 3]) {
    const reranker = { score: () => scores as number[] }
    await refuses(
      t,
      sampler.textToImage(prompt, { ...options, reranker }),
      'ERR_VILG_INVALID_ARGUMENT',
      '2 numbers',
    )
  }
  t.is((await sampler.textToImage(prompt, options)).length, 1)
})

test('progress never falls within a phase, ends at 1, and phases come in order', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const events: ProgressEvent[] = []
  await sampler.textToImage(prompt, { count: 70, best: 2, onProgress: (event) => events.push(event) })
  const phases = events.map(({ phase }) => phase).filter((phase, i, all) => phase !== all[i - 1])
  t.deepEqual(phases, ['decode', 'vqgan', 'rerank'])
  for (const phase of phases) {
    const fractions = events.filter((event) => event.phase === phase).map(({ fraction }) => fraction)
    t.is(fractions.at(-1), 1)
    t.true(fractions.every((fraction, i) => fraction > 0 && fraction >= (fractions[i - 1] ?? 0)))
  }
  t.is(events.filter(({ phase }) => phase === 'decode').length, 8) // a row each, of two sessions
})

test('onProgress that throws rejects the call with what it threw, and the next call works', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const reason = new Error('stop it')
  for (const phase of ['decode', 'vqgan', 'rerank']) {
    const onProgress = (event: ProgressEvent) => {
      if (event.phase === phase) throw reason
    }
    t.is(await t.throwsAsync(sampler.textToImage(prompt, { count: 2, best: 1, onProgress })), reason)
  }
  t.is((await sampler.textToImage(prompt)).length, 1)
})

test('a prompt that does not fit is refused with its length, or cut where asked', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const long = '红'.repeat(9)
  const error = await refuses(
    t,
    sampler.textToImage(long),
    'ERR_VILG_INVALID_ARGUMENT',
    '9 tokens',
    '8',
    'truncate',
  )
  t.is(error.details!['tokens'], 9)
  t.is(error.details!['room'], 8)
  const [cut] = await sampler.textToImage(long, { truncate: true, seed: 1 })
  const [short] = await sampler.textToImage('红'.repeat(8), { seed: 1 })
  t.is(essence(cut!), essence(short!))
  // the reranker reads the same cut prompt
  t.is((await sampler.textToImage(long, { truncate: true, count: 2, best: 1 })).length, 1)
  await refuses(t, sampler.textToImage('红'.repeat(100_000)), 'ERR_VILG_INVALID_ARGUMENT', '100000 tokens')
})

test('an empty prompt is refused', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  for (const empty of ['', ' \n\t ', '\0']) {
    await refuses(t, sampler.textToImage(empty), 'ERR_VILG_INVALID_ARGUMENT', 'at least one token')
  }
  for (const wrong of [undefined, null, 3, ['红']]) {
    await refuses(t, sampler.textToImage(wrong as unknown as string), 'ERR_VILG_INVALID_ARGUMENT', 'prompt')
  }
})

test('options out of range, of the wrong type or unknown are refused by name', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const reranker = { score: () => [1] }
  const bad: [string, Record<string, unknown>][] = [
    ['count', { count: 0 }],
    ['count', { count: NaN }],
    ['count', { count: 1.5 }],
    ['count', { count: 1025 }],
    ['count', { count: '3' }],
    ['best', { count: 3, best: 4 }],
    ['best', { count: 3, best: 0 }],
    ['best', { count: 3, best: NaN }],
    ['best', { reranker }],
    ['reranker', { best: 1, reranker: {} }],
    ['reranker', { best: 1, reranker: null }],
    ['seed', { seed: -1 }],
    ['seed', { seed: NaN }],
    ['seed', { seed: 2 ** 53 }],
    ['temperature', { temperature: NaN }],
    ['temperature', { temperature: -0.1 }],
    ['temperature', { temperature: Infinity }],
    ['topK', { topK: -1 }],
    ['topK', { topK: 1.5 }],
    ['topP', { topP: 0 }],
    ['topP', { topP: 1.1 }],
    ['topP', { topP: NaN }],
    ['truncate', { truncate: 1 }],
    ['signal', { signal: {} }],
    ['onProgress', { onProgress: 'log' }],
    ['"temprature"', { temprature: 1 }],
    ['"beams"', { beams: 3 }],
  ]
  for (const [name, options] of bad) {
    await refuses(
      t,
      sampler.textToImage(prompt, options as TextToImageOptions),
      'ERR_VILG_INVALID_ARGUMENT',
      name,
    )
  }
  for (const options of [null, 3, []] as unknown as TextToImageOptions[]) {
    await refuses(t, sampler.textToImage(prompt, options), 'ERR_VILG_INVALID_ARGUMENT', 'textToImage options')
  }
  for (const name of ['guidance', 'imagePrompt']) {
    await refuses(t, sampler.textToImage(prompt, { [name]: 3 }), 'ERR_VILG_UNSUPPORTED', name)
  }
})
