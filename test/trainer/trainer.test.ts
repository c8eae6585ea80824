import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { memoryUse } from '../../lib/backend-info.ts'
import { CounterRandom } from '../../lib/data/random.ts'
import { VilgError } from '../../lib/errors.ts'
import { Generator } from '../../lib/model/generator.ts'
import { ImageTokenizer } from '../../lib/model/image-tokenizer.ts'
import type { GeneratorBatch } from '../../lib/trainer/generator-learner.ts'
import type { ImageTokenizerBatch } from '../../lib/trainer/picture-learner.ts'
import type { TrainerOptions } from '../../lib/trainer/options.ts'
import { trainRun } from '../../lib/trainer/run.ts'
import { Trainer } from '../../lib/trainer/trainer.ts'
import type {
  BatchOf,
  GeneratorStep,
  ImageTokenizerStep,
  TrainerStep,
} from '../../lib/trainer/training-loop.ts'
import { collect } from './fake.ts'

const generatorConfig = {
  layers: 3,
  hidden: 32,
  heads: 2,
  textVocab: 13,
  imageVocab: 11,
  textLength: 5,
  grid: 3,
  kernel: 3,
}
const tokenizerConfig = {
  quantizer: 'nearest',
  resolution: 8,
  channels: 32,
  multipliers: [1, 1],
  residualBlocks: 1,
  attentionResolutions: [],
  latentChannels: 8,
  codebookSize: 12,
  codebookDim: 4,
} as const

async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-trainer-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

function tokenBatch(number: number, pairs = 3): GeneratorBatch {
  const random = new CounterRandom(5, number)
  const { textLength, textVocab, imageVocab, grid } = generatorConfig
  const lengths = Array.from({ length: pairs }, () => 3 + random.below(textLength - 2))
  const rows = lengths.map((length) =>
    Array.from({ length: textLength }, (_, i) => (i < length ? 1 + random.below(textVocab - 1) : 0)),
  )
  return {
    text: Int32Array.from(rows.flat()),
    textValid: Uint8Array.from(lengths.flatMap((length) => rows[0]!.map((_, i) => Number(i < length)))),
    image: Int32Array.from({ length: pairs * grid * grid }, () => random.below(imageVocab)),
  }
}

function imageBatch(number: number, count = 2): ImageTokenizerBatch {
  const random = new CounterRandom(6, number)
  const images = new Float32Array(count * 3 * 64)
  for (let plane = 0; plane < count * 3; plane++) {
    const [level, slope] = [random.next() / 2 ** 31 - 1, random.next() / 2 ** 33]
    for (let i = 0; i < 64; i++) images[plane * 64 + i] = level * 0.5 + slope * ((i % 8) / 4 - 1)
  }
  return { images }
}

async function* stream<T>(make: (number: number) => T, start = 0): AsyncGenerator<T> {
  for (let number = start; ; number++) yield make(number)
}

/** A fresh trainer that goes together with its target. */
async function fresh(kind: 'generator' | 'image-tokenizer', options: TrainerOptions): Promise<Trainer> {
  return kind === 'generator'
    ? (new Trainer(await Generator.create(generatorConfig, { seed: 1 }), options) as Trainer)
    : (new Trainer(await ImageTokenizer.create(tokenizerConfig, { seed: 1 }), options) as unknown as Trainer)
}

const kinds = {
  generator: {
    options: { learningRate: 3e-3, schedule: 'cosine', totalSteps: 12, warmupSteps: 2, weightDecay: 0.1 },
    batch: tokenBatch,
  },
  'image-tokenizer': {
    options: {
      learningRate: 2e-3,
      warmupSteps: 3,
      reviveAfter: 2,
      lossWeights: { absolute: 0.5, commitment: 0.25 },
    },
    batch: imageBatch,
  },
} as const

/** The numbers of a step that do not depend on time. */
function exact({
  seconds: _,
  pairsPerSecond: _1,
  tokensPerSecond: _2,
  flopsPerSecond: _3,
  ...rest
}: TrainerStep): object {
  return rest
}

async function stateBytes(t: ExecutionContext, trainer: Trainer): Promise<Buffer> {
  const folder = await tempFolder(t)
  await trainer.save(folder)
  const name = (await readdir(folder)).find((one) => one.startsWith('state-'))!
  return readFile(join(folder, name))
}

for (const kind of ['generator', 'image-tokenizer'] as const) {
  const { options } = kinds[kind]
  const batch = kinds[kind].batch as (number: number, pairs?: number) => BatchOf<TrainerStep>

  // by itself, as all tests of this file share the memory that is counted
  test.serial(`${kind}: layers that run again change nothing but the memory`, async (t) => {
    const states: Buffer[] = []
    const peaks: number[] = []
    for (const recompute of [false, true]) {
      await using trainer = await fresh(kind, { ...options, recompute })
      await collect(
        trainer.fit(
          stream((number) => batch(number, 8)),
          { steps: 1 },
        ),
      )
      const { inUse } = memoryUse({ device: 'cpu', resetPeak: true })
      await collect(
        trainer.fit(
          stream((number) => batch(number + 1, 8)),
          { steps: 2 },
        ),
      )
      peaks.push(memoryUse({ device: 'cpu' }).peak - inUse)
      states.push(await stateBytes(t, trainer))
    }
    t.true(peaks[1]! < peaks[0]!, String(peaks))
    t.true(states[0]!.equals(states[1]!))
  })

  for (const precision of ['float32', 'bfloat16'] as const) {
    test(`${kind}, ${precision}: a resumed run equals an uninterrupted one bit for bit`, async (t) => {
      const folder = await tempFolder(t)
      const all = { ...options, precision, accumulate: 2 }
      await using whole = await fresh(kind, all)
      const expected = await collect(whole.fit(stream(batch), { steps: 8 }))
      t.deepEqual(
        expected.map(({ step }) => step),
        [1, 2, 3, 4, 5, 6, 7, 8],
      )

      await using first = await fresh(kind, all)
      const steps = await collect(first.fit(stream(batch), { steps: 3 }))
      await first.save(folder)
      await first.target.dispose()
      await using second = await Trainer.resume(folder)
      t.is(second.kind, kind)
      t.is(second.step, 3)
      t.deepEqual(second.options, first.options)
      steps.push(...(await collect(second.fit(stream(batch, 6), { steps: 2 }))))
      await second.save(folder) // over the older one
      await using third = await Trainer.resume(folder)
      steps.push(...(await collect(third.fit(stream(batch, 10), { steps: 3 }))))
      t.deepEqual(steps.map(exact), expected.map(exact))
      t.true((await stateBytes(t, third)).equals(await stateBytes(t, whole)))
      await whole.target.dispose()
    })
  }

  test(`${kind}: an aborted step leaves no trace`, async (t) => {
    const all = { ...options, accumulate: 3 }
    await using whole = await fresh(kind, all)
    await collect(whole.fit(stream(batch), { steps: 3 }))
    await using trainer = await fresh(kind, all)
    await collect(trainer.fit(stream(batch), { steps: 1 }))
    const reason = new Error('enough')
    // somewhere in the step: before, in, or between its micro-batches
    for (const delay of [0, 1, 2, 4, 7]) {
      const controller = new AbortController()
      const data = stream(batch, 3)
      const running = trainer.fit(data, { steps: 1, signal: controller.signal })
      const next = running.next()
      await new Promise((resolve) => (delay === 0 ? setImmediate(resolve) : setTimeout(resolve, delay)))
      controller.abort(reason)
      const ended = await next.then(
        () => undefined,
        (error: unknown) => error,
      )
      if (ended === undefined) break // faster than the abort: step 2 is done
      t.is(ended, reason)
      t.is(trainer.step, 1)
    }
    const left = 3 - trainer.step
    await collect(trainer.fit(stream(batch, trainer.step * 3), { steps: left }))
    t.true((await stateBytes(t, trainer)).equals(await stateBytes(t, whole)))
    await trainer.target.dispose()
    await whole.target.dispose()
  })

  test(`${kind}: two micro-batches equal one batch`, async (t) => {
    // Without an update from a second moment of nothing, which would turn rounding into a step of full size: only the gradient.
    const plain = kind === 'generator' ? {} : { initializeCodebook: false }
    await using one = await fresh(kind, plain)
    await using two = await fresh(kind, { ...plain, accumulate: 2 })
    const [left, right] = [batch(0, 1), batch(1, 4)]
    const both = joined(left, right)
    const [expected] = await collect(
      one.fit(
        stream(() => both),
        { steps: 1 },
      ),
    )
    const [found] = await collect(
      two.fit(
        stream((i) => (i % 2 === 0 ? left : right)),
        { steps: 1 },
      ),
    )
    // Sums of the same float32 terms in another order: some ulps of the whole each.
    for (const key of ['loss', 'gradientNorm'] as const) {
      t.true(Math.abs(expected![key] - found![key]) <= 64 * 2 ** -23 * expected![key], key)
    }
    await one.target.dispose()
    await two.target.dispose()
  })

  test(`${kind}: learns a batch by heart`, async (t) => {
    await using trainer = await fresh(kind, { learningRate: 5e-3, warmupSteps: 5 })
    const steps = await collect(
      trainer.fit(
        stream(() => batch(0)),
        { steps: 80 },
      ),
    )
    const key = (kind === 'generator' ? 'loss' : 'reconstruction') as 'loss'
    const [first, last] = [steps[0]![key], steps.at(-1)![key]]
    t.true(last < first / 4, `${first} to ${last}`)
    const evaluation = (await trainer.evaluate(
      (async function* () {
        yield batch(0)
      })(),
    )) as unknown as Record<string, number>
    // after the last update, so a little better than in it
    t.true(Math.abs(evaluation[key]! - last) < first / 10)
    await trainer.target.dispose()
  })

  test(`${kind}: a run in a folder survives its end at any step`, async (t) => {
    const run = async (folder: string, minutes?: number) => {
      const { trainer, finished } = await trainRun<TrainerStep, Trainer>(folder, {
        settings: { options },
        steps: 4,
        create: () => fresh(kind, options),
        resume: (path) => Trainer.resume(path),
        batches: (start) => stream(batch, start),
        progress: false,
        ...(minutes === undefined ? {} : { minutes }),
      })
      const bytes = await stateBytes(t, trainer)
      await trainer.dispose()
      await trainer.target.dispose()
      return { finished, bytes }
    }
    const expected = await run(await tempFolder(t))
    t.true(expected.finished)
    const folder = await tempFolder(t)
    let parts = 1
    let result = await run(folder, 0)
    for (; !result.finished; parts++) result = await run(folder, 0)
    t.is(parts, 4)
    t.true(result.bytes.equals(expected.bytes))
  })
}

function joined(a: BatchOf<TrainerStep>, b: BatchOf<TrainerStep>): BatchOf<TrainerStep> {
  const result: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(a) as [string, Float32Array][]) {
    const other = (b as unknown as Record<string, Float32Array>)[key]!
    const both = new (value.constructor as Float32ArrayConstructor)(value.length + other.length)
    both.set(value)
    both.set(other, value.length)
    result[key] = both
  }
  return result as unknown as BatchOf<TrainerStep>
}

test('a direction of weight 0 is left out', async (t) => {
  await using generator = await Generator.create(generatorConfig)
  await using trainer = new Trainer(generator, { directionWeights: { imageToText: 0 } })
  const [step] = await collect(trainer.fit(stream(tokenBatch), { steps: 1 }))
  t.true(step!.textToImage > 1)
  t.is(step!.imageToText, 0)
  t.is(step!.loss, step!.textToImage)
})

test('code use and revival are reported', async (t) => {
  await using tokenizer = await ImageTokenizer.create(tokenizerConfig, { seed: 2 })
  await using trainer = new Trainer(tokenizer, { reviveAfter: 1 })
  const steps: ImageTokenizerStep[] = await collect(trainer.fit(stream(imageBatch), { steps: 4 }))
  for (const { codesUsed, revived, perplexity } of steps) {
    t.is(codesUsed + revived, 12) // after one step without use
    t.true(perplexity >= 1 && perplexity <= codesUsed + 1e-9)
  }
})

test('evaluation of pictures', async (t) => {
  await using tokenizer = await ImageTokenizer.create(tokenizerConfig, { seed: 2 })
  await using trainer = new Trainer(tokenizer)
  const batches = [imageBatch(0, 3), imageBatch(1, 1)]
  const result = await trainer.evaluate(
    (async function* () {
      yield* batches
    })(),
  )
  t.is(result.images, 4)
  let squared = 0
  const codes = new Set<number>()
  for (const { images } of batches) {
    const count = images.length / 192
    const { indices } = await tokenizer.encode(images, { count })
    const decoded = await tokenizer.decode(indices, { count })
    for (const index of indices) codes.add(index)
    squared += images.reduce((sum, x, i) => sum + (x - Math.min(1, Math.max(-1, decoded[i]!))) ** 2, 0)
  }
  t.true(Math.abs(result.reconstruction - squared / (4 * 192)) < 1e-9)
  t.true(Math.abs(result.psnr - 20 * Math.log10(2 / Math.sqrt(result.reconstruction))) < 1e-9)
  t.is(result.codesUsed, codes.size)
})

test('targets that cannot be trained', async (t) => {
  const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
  for (const target of [undefined, null, {}, 'generator', new CounterRandom(1)]) {
    t.throws(() => new Trainer(target as never), invalid)
  }
  await using generator = await Generator.create(generatorConfig)
  t.throws(() => new Trainer({ generator } as never), { code: 'ERR_VILG_UNSUPPORTED' })
  t.throws(() => new Trainer(generator, { reviveAfter: 1 }), invalid)
  t.throws(() => new Trainer(generator, { learningRate: -1 }), invalid)
  await using rounded = await Generator.create(generatorConfig, { precision: 'bfloat16' })
  t.throws(() => new Trainer(rounded), { code: 'ERR_VILG_UNSUPPORTED', message: /float32/ })
  await generator.dispose()
  t.throws(() => new Trainer(generator), { code: 'ERR_VILG_DISPOSED' })
})

test('disposal of target and trainer, in any order', async (t) => {
  const folder = await tempFolder(t)
  const generator = await Generator.create(generatorConfig)
  const trainer = new Trainer(generator)
  t.true(trainer instanceof Trainer)
  t.false(generator instanceof Trainer)
  t.is(trainer.target, generator)
  await trainer.save(folder)
  await generator.dispose()
  t.true(trainer.disposed)

  const resumed = await Trainer.resume<GeneratorStep>(folder)
  t.true(resumed instanceof Trainer)
  const target = resumed.target
  const running = collect(resumed.fit(stream(tokenBatch)))
  running.catch(() => {}) // looked at below
  await new Promise(setImmediate)
  await resumed.dispose()
  t.true(target.disposed)
  await t.throwsAsync(running, { code: 'ERR_VILG_DISPOSED' })

  const again = await Trainer.resume(folder)
  await again.target.dispose()
  t.true(again.disposed)
  await again.dispose()
})

test('options may change when a run is resumed', async (t) => {
  const folder = await tempFolder(t)
  await using generator = await Generator.create(generatorConfig)
  await using trainer = new Trainer(generator, { learningRate: 1e-3, clipNorm: 2 })
  await collect(trainer.fit(stream(tokenBatch), { steps: 1 }))
  await trainer.save(folder)
  await using resumed = await Trainer.resume(folder, { learningRate: 1e-4, device: 'cpu' })
  t.is(resumed.options.clipNorm, 2)
  const [step] = await collect(resumed.fit(stream(tokenBatch, 1), { steps: 1 }))
  t.is(step!.learningRate, 1e-4)
  const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
  await t.throwsAsync(Trainer.resume(folder, { rate: 1 } as never), invalid)
  await t.throwsAsync(Trainer.resume(folder, { reviveAfter: 1 }), invalid)
  await t.throwsAsync(Trainer.resume(7 as never), invalid)
  await t.throwsAsync(Trainer.resume(join(folder, 'none')), { code: 'ERR_VILG_IO' })
})

test('damaged checkpoints are refused', async (t) => {
  const folder = await tempFolder(t)
  await using generator = await Generator.create(generatorConfig)
  await using trainer = new Trainer(generator)
  await collect(trainer.fit(stream(tokenBatch), { steps: 2 }))
  await trainer.save(folder)
  const json = join(folder, 'trainer.json')
  const good = await readFile(json, 'utf8')
  const incompatible = { code: 'ERR_VILG_CHECKPOINT_INCOMPATIBLE' }
  await writeFile(json, good.replace('"step": 2', '"step": 3'))
  await t.throwsAsync(Trainer.resume(folder), { ...incompatible, message: /step 3 .* step 2/ })
  await writeFile(json, good.replace('"hidden": 32', '"hidden": 64'))
  await t.throwsAsync(Trainer.resume(folder), incompatible)
  await writeFile(json, good)
  const state = (await readdir(folder)).find((name) => name.startsWith('state-'))!
  await truncate(join(folder, state), 2000)
  await t.throwsAsync(Trainer.resume(folder), { instanceOf: VilgError })
  await rm(join(folder, state))
  await t.throwsAsync(Trainer.resume(folder), { instanceOf: VilgError })
})

test('questions beside pairs: each loss is the mean over what asks for it', async (t) => {
  const pairs = tokenBatch(0, 3)
  const questions: GeneratorBatch = { ...tokenBatch(1, 2), direction: 'image-to-text' }
  questions.textTarget = questions.textValid.map((one, i) => (i % generatorConfig.textLength > 1 ? one : 0))
  const target = await Generator.create(generatorConfig, { seed: 1 })
  const directions = { pairs: ['text-to-image', 'image-to-text'], questions: ['image-to-text'] } as const
  const expected = { textToImage: 0, imageToText: 0 }
  const counts = {
    pairs: countValid(pairs) - 3,
    questions: questions.textTarget.reduce((sum, one) => sum + one, 0),
  }
  for (const [name, batch] of [
    ['pairs', pairs],
    ['questions', questions],
  ] as const) {
    for (const direction of directions[name]) {
      const { direction: _, ...tokens } = batch
      const { loss } = await target.forward(tokens, { direction })
      if (direction === 'text-to-image') expected.textToImage = loss
      else expected.imageToText += (loss * counts[name]) / (counts.pairs + counts.questions)
    }
  }
  await using trainer = new Trainer(target, { accumulate: 2 })
  const batches = async function* () {
    yield pairs
    yield questions
  }
  const evaluation = await trainer.evaluate(batches())
  const [step] = await collect(trainer.fit(batches(), { steps: 1 }))
  for (const terms of [step!, evaluation]) {
    t.true(Math.abs(terms.textToImage - expected.textToImage) < 1e-6)
    t.true(Math.abs(terms.imageToText - expected.imageToText) < 1e-6)
  }
  await target.dispose()
})

test('batches for a direction that is not trained, or without anything to predict, are refused', async (t) => {
  const target = await Generator.create(generatorConfig, { seed: 1 })
  await using trainer = new Trainer(target, { directionWeights: { imageToText: 0 } })
  const first = async (trainer: Trainer<GeneratorStep>, batch: GeneratorBatch) =>
    collect(trainer.fit(one(batch), { steps: 1 }))
  const one = async function* (batch: GeneratorBatch) {
    yield batch
  }
  const batch = tokenBatch(0)
  await t.throwsAsync(first(trainer, { ...batch, direction: 'image-to-text' }), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
    message: /a direction whose weight is not 0 for .*direction/,
  })
  await using both = new Trainer(target, {})
  const nothing = {
    ...batch,
    direction: 'image-to-text' as const,
    textTarget: new Uint8Array(batch.text.length),
  }
  await t.throwsAsync(first(both, nothing), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
    message: /a text token to predict/,
  })
  await t.throwsAsync(first(both, { ...batch, direction: 'up' as 'image-to-text' }), { message: /direction/ })
  await target.dispose()
})

test('groups of a trainer go into its checkpoint', async (t) => {
  const folder = await tempFolder(t)
  const groups = [{ weights: 'blocks.0.*', learningRateScale: 0 }]
  await using trainer = new Trainer(await Generator.create(generatorConfig, { seed: 1 }), { groups })
  await collect(trainer.fit(stream(tokenBatch), { steps: 1 }))
  await trainer.save(folder)
  await using resumed = await Trainer.resume<GeneratorStep>(folder)
  t.deepEqual(resumed.options.groups, [{ weights: ['blocks.0.*'], learningRateScale: 0 }])
  t.deepEqual(
    (await collect(resumed.fit(stream(tokenBatch, 1), { steps: 1 }))).map(exact),
    (await collect(trainer.fit(stream(tokenBatch, 1), { steps: 1 }))).map(exact),
  )
  await trainer.target.dispose()
})

function countValid({ textValid }: GeneratorBatch): number {
  return textValid.reduce((sum, one) => sum + one, 0)
}
