import test from 'ava'
import type { NativeDrawOptions } from '../../types/native-models.d.ts'
import {
  backendInfo,
  type Device,
  type Generator,
  type GeneratorConfig,
  setThreads,
} from '../../lib/index.ts'
import { openImageSession } from '../../lib/model/sessions.ts'
import { lively, logProbability, randomBatch, refuses } from './helpers.ts'

const plain: NativeDrawOptions = { seed: 5, temperature: 1, topK: 0, topP: 1 }

/** One prompt with PAD at its end, unless it fills the text. */
function prompt(config: GeneratorConfig, seed: number) {
  const { text, textValid } = randomBatch(config, 1, seed)
  return { text, textValid }
}

/** Draws all tokens, some at a time, as the steps say. */
async function drawAll(
  generator: Generator,
  seed: number,
  rows: number,
  draw = plain,
  firstStream = 0,
  steps: readonly number[] = [1, 2, 1000],
) {
  const { text, textValid } = prompt(generator.config, seed)
  const session = openImageSession(generator, text, textValid, rows, firstStream, draw)
  try {
    const n = generator.config.grid ** 2
    let result = await session.step(steps[0]!)
    for (let i = 1; result.position < n; i++) result = await session.step(steps[i % steps.length]!)
    return { ...result, text, textValid }
  } finally {
    session.dispose()
  }
}

/** What forward() says of drawn tokens: log P of each row. */
async function scores(generator: Generator, drawn: Awaited<ReturnType<typeof drawAll>>): Promise<number[]> {
  const { textLength, grid, imageVocab } = generator.config
  const n = grid * grid
  const rows = drawn.tokens.length / n
  const text = new Int32Array(rows * textLength)
  const textValid = new Uint8Array(rows * textLength)
  for (let r = 0; r < rows; r++) {
    text.set(drawn.text, r * textLength)
    textValid.set(drawn.textValid, r * textLength)
  }
  const batch = { text, textValid, image: drawn.tokens }
  const { logits } = await generator.forward(batch, { direction: 'text-to-image' })
  return Array.from({ length: rows }, (_, r) => {
    let sum = 0
    for (let p = 0; p < n; p++) {
      const at = r * n + p
      sum += logProbability(logits, at * imageVocab, imageVocab, drawn.tokens[at]!)
    }
    return sum
  })
}

for (const device of ['cpu', 'ref'] as Device[]) {
  for (const attention of ['sparse', 'full'] as const) {
    for (let grid = 1; grid <= 5; grid++) {
      test.serial(
        `${device}: ${attention} attention, grid ${grid}: cached decoding is the full forward`,
        async (t) => {
          // kernels smaller and larger than the grid
          const generator = await lively(
            t,
            { attention, grid, kernel: grid % 2 === 0 ? 3 : 5 },
            { device, seed: grid },
          )
          for (const seed of [1, 2]) {
            const drawn = await drawAll(generator, seed, 3)
            t.is(drawn.position, grid * grid)
            const expected = await scores(generator, drawn)
            expected.forEach((score, r) => {
              const error = Math.abs(drawn.logProbabilities[r]! - score)
              t.true(
                error < 1e-4 * Math.max(1, Math.abs(score)),
                `row ${r}: ${drawn.logProbabilities[r]} ${score}`,
              )
            })
          }
        },
      )
    }
  }
}

test('temperature 0 draws the most probable token of forward at every position', async (t) => {
  const generator = await lively(t, { grid: 4 })
  const drawn = await drawAll(generator, 3, 1, { ...plain, temperature: 0 })
  const batch = { text: drawn.text, textValid: drawn.textValid, image: drawn.tokens }
  const { logits } = await generator.forward(batch, { direction: 'text-to-image' })
  const vocab = generator.config.imageVocab
  drawn.tokens.forEach((token, p) => {
    const row = logits.subarray(p * vocab, (p + 1) * vocab)
    t.is(token, row.indexOf(row.reduce((a, b) => Math.max(a, b))))
  })
})

for (const precision of ['float32', 'bfloat16'] as const) {
  test(`${precision}: a candidate does not depend on how many are drawn with it, nor on the steps`, async (t) => {
    const generator = await lively(t, { grid: 4, hidden: 48 }, { precision })
    const n = 16
    const eight = await drawAll(generator, 1, 8)
    const rows = new Set(
      Array.from({ length: 8 }, (_, r) => eight.tokens.subarray(r * n, (r + 1) * n).join()),
    )
    t.true(rows.size > 4, 'candidates differ')
    for (const r of [0, 3, 7]) {
      const one = await drawAll(generator, 1, 1, plain, r, [5])
      t.deepEqual(one.tokens, eight.tokens.slice(r * n, (r + 1) * n), `candidate ${r}`)
      t.is(one.logProbabilities[0], eight.logProbabilities[r])
    }
  })
}

test.serial('1 thread and 2 give the same bits', async (t) => {
  const before = backendInfo().threads
  t.teardown(() => setThreads(before))
  const generator = await lively(t, { grid: 5, hidden: 48 })
  const batch = randomBatch(generator.config, 3, 9)
  const runs = []
  for (const threads of [1, 2, 3]) {
    setThreads(threads)
    const drawn = await drawAll(generator, 2, 4)
    const { logits } = await generator.forward(batch, { direction: 'text-to-image' })
    const { gradients } = await generator.gradients(batch, { direction: 'image-to-text' })
    runs.push({
      tokens: drawn.tokens,
      scores: drawn.logProbabilities,
      logits,
      gradients: [...gradients.values()],
    })
  }
  t.deepEqual(runs[1], runs[0])
  t.deepEqual(runs[2], runs[0])
})

test('another seed, another picture; the same seed, the same', async (t) => {
  const generator = await lively(t, { grid: 4 })
  const one = await drawAll(generator, 1, 1)
  t.deepEqual((await drawAll(generator, 1, 1)).tokens, one.tokens)
  t.notDeepEqual((await drawAll(generator, 1, 1, { ...plain, seed: 6 })).tokens, one.tokens)
})

test('a step that was stopped goes on where it was', async (t) => {
  const generator = await lively(t, { grid: 5, layers: 8 })
  const { native, stopped } = await import('../../lib/native/binding.ts')
  const whole = await drawAll(generator, 4, 6)
  // stopped before, in the prefix, and here and there later
  const session = openImageSession(generator, whole.text, whole.textValid, 6, 0, plain)
  t.teardown(() => session.dispose())
  let stops = 0
  let result: { position: number; tokens: Int32Array } = { position: 0, tokens: new Int32Array() }
  for (let i = 0; result.position < 25; i++) {
    const stop = new (native().StopFlag)()
    if (i === 0) stop.raise()
    else if (i < 40) setTimeout(() => stop.raise(), 0)
    try {
      result = await session.step(2, { stop })
    } catch (error) {
      t.is(error, stopped)
      stops++
    }
  }
  t.true(stops > 0)
  t.deepEqual(result.tokens, whole.tokens)
})

test('what a session is not given is refused', async (t) => {
  const generator = await lively(t)
  const { text, textValid } = prompt(generator.config, 1)
  const open = (...changes: Partial<Parameters<typeof openImageSession>>) => {
    const all = [generator, text, textValid, 1, 0, plain].map((one, i) => changes[i] ?? one)
    return async () => openImageSession(...(all as Parameters<typeof openImageSession>))
  }
  const at = (i: number, value: unknown) => {
    const changes: unknown[] = []
    changes[i] = value
    return open(...(changes as []))
  }
  await refuses(t, at(1, text.slice(1)), 'ERR_VILG_SHAPE_MISMATCH')
  await refuses(
    t,
    at(
      1,
      Int32Array.from(text, (_, i) => (i === 2 ? 19 : 0)),
    ),
    'ERR_VILG_INVALID_ARGUMENT',
    '19',
  )
  await refuses(
    t,
    at(
      2,
      textValid.map(() => 0),
    ),
    'ERR_VILG_INVALID_ARGUMENT',
    'CLS',
  )
  await refuses(t, at(3, 65), 'ERR_VILG_INVALID_ARGUMENT', '64')
  await refuses(t, at(4, -1), 'ERR_VILG_INVALID_ARGUMENT')
  await refuses(t, at(5, { ...plain, temperature: NaN }), 'ERR_VILG_INVALID_ARGUMENT', 'NaN')
})

test('two steps of one session at once: the second is refused', async (t) => {
  const generator = await lively(t, { grid: 5 })
  const { text, textValid } = prompt(generator.config, 1)
  const session = openImageSession(generator, text, textValid, 4, 0, plain)
  const first = session.step(20)
  await refuses(t, session.step(1), 'ERR_VILG_BUSY')
  t.is((await first).position, 20)
  t.is((await session.step(100)).position, 25)
  session.dispose()
})

test('sessions of one generator run beside each other', async (t) => {
  const generator = await lively(t, { grid: 4 })
  const alone = [await drawAll(generator, 1, 2), await drawAll(generator, 2, 2)]
  const together = await Promise.all([drawAll(generator, 1, 2), drawAll(generator, 2, 2)])
  together.forEach((one, i) => t.deepEqual(one.tokens, alone[i]!.tokens))
})

test('a generator that is disposed of ends the steps of its sessions', async (t) => {
  const generator = await lively(t, { grid: 5, layers: 12, hidden: 96 })
  const { text, textValid } = prompt(generator.config, 1)
  const session = openImageSession(generator, text, textValid, 64, 0, plain)
  const step = session.step(25)
  const gone = generator.dispose()
  await refuses(t, step, 'ERR_VILG_DISPOSED', 'Generator')
  await gone
  t.true(session.disposed)
  await refuses(t, async () => session.step(1), 'ERR_VILG_DISPOSED')
  await refuses(t, async () => openImageSession(generator, text, textValid, 1, 0, plain), 'ERR_VILG_DISPOSED')
})
