import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { backendInfo, setThreads } from '../../lib/backend-info.ts'
import { CounterRandom } from '../../lib/data/random.ts'
import { ImageTokenizer } from '../../lib/model/image-tokenizer.ts'
import type { TrainerOptions } from '../../lib/trainer/options.ts'
import type { ImageTokenizerBatch } from '../../lib/trainer/picture-learner.ts'
import { trainRun } from '../../lib/trainer/run.ts'
import { Trainer } from '../../lib/trainer/trainer.ts'
import type { DvaeStep, ImageTokenizerStep, TrainerStep } from '../../lib/trainer/training-loop.ts'
import { fixture, refuses, temporaryFolder } from '../model/helpers.ts'
import { collect } from './fake.ts'

// What a vqgan's training may add, and that of a dvae.

const vqgan = {
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
const dvae = {
  model: 'dvae',
  resolution: 8,
  hidden: 16,
  initial: 4,
  blocksPerGroup: 1,
  groups: 2,
  codebookSize: 12,
  epsilon: 0.1,
} as const

/** Pictures of two colours. */
function imageBatch(number: number): ImageTokenizerBatch {
  const random = new CounterRandom(6, number)
  const images = new Float32Array(2 * 3 * 64)
  for (let plane = 0; plane < 6; plane++) {
    const [left, right] = [random.next() / 2 ** 31 - 1, random.next() / 2 ** 31 - 1]
    for (let i = 0; i < 64; i++) images[plane * 64 + i] = i % 8 < 3 + plane / 2 ? left : right
  }
  return { images }
}
async function* stream(start = 0): AsyncGenerator<ImageTokenizerBatch> {
  for (let number = start; ; number++) yield imageBatch(number)
}

async function* batchesOf(...batches: Float32Array[]): AsyncGenerator<ImageTokenizerBatch> {
  for (const images of batches) yield { images }
}

const kinds = {
  'a vqgan against a discriminator, its codebook by averages': {
    config: vqgan,
    options: {
      learningRate: 2e-3,
      reviveAfter: 2,
      lossWeights: { absolute: 1, codebook: 0.25 },
      discriminator: { start: 2, channels: 8, layers: 1 },
      codebookAverages: { decay: 0.9 },
      codebookRate: { weight: 0.01, decay: 0.9 },
    },
  },
  'a dvae': {
    config: dvae,
    options: {
      learningRate: 3e-3,
      temperature: { from: 1, to: 0.5, steps: 6 },
      divergenceWeight: { from: 0, to: 2, steps: 3 },
      straightThrough: true,
    },
  },
} as const satisfies Record<string, { config: object; options: TrainerOptions }>

async function fresh<Step extends ImageTokenizerStep | DvaeStep>(
  t: ExecutionContext,
  config: typeof vqgan | typeof dvae,
  options: TrainerOptions,
): Promise<Trainer<Step>> {
  const tokenizer = await ImageTokenizer.create(config, { seed: 1 })
  t.teardown(() => tokenizer.dispose())
  return new Trainer<Step>(tokenizer, options)
}

/** The numbers of a step that do not depend on time. */
function exact(step: TrainerStep): object {
  const timed = ['seconds', 'pairsPerSecond', 'tokensPerSecond', 'flopsPerSecond']
  return Object.fromEntries(Object.entries(step).filter(([key]) => !timed.includes(key)))
}

for (const [name, { config, options }] of Object.entries(kinds)) {
  test(`${name}: a resumed run equals an uninterrupted one bit for bit`, async (t) => {
    const folder = await temporaryFolder(t)
    const all = { ...options, accumulate: 2 }
    const whole = await fresh(t, config, all)
    const expected = await collect(whole.fit(stream(), { steps: 7 }))
    const first = await fresh(t, config, all)
    const steps = await collect(first.fit(stream(), { steps: 3 }))
    await first.save(folder)
    await using second = await Trainer.resume<ImageTokenizerStep | DvaeStep>(folder)
    t.deepEqual(second.options, whole.options)
    steps.push(...(await collect(second.fit(stream(6), { steps: 4 }))))
    t.deepEqual(steps.map(exact), expected.map(exact))
    const indices = Int32Array.from({ length: 16 }, (_, i) => i % 12)
    t.deepEqual(await second.target.decode(indices), await whole.target.decode(indices))
  })
}

test.serial('a step has the same bits with 1, 2 and 3 threads', async (t) => {
  const before = backendInfo().threads
  t.teardown(() => setThreads(before))
  for (const { config, options } of Object.values(kinds)) {
    const runs = []
    for (const threads of [1, 2, 3]) {
      setThreads(threads)
      const trainer = await fresh(t, config, options)
      runs.push((await collect(trainer.fit(stream(), { steps: 4 }))).map(exact))
    }
    t.deepEqual(runs[1], runs[0])
    t.deepEqual(runs[2], runs[0])
  }
})

test('the discriminator takes part from its start on, and is told of', async (t) => {
  const { config, options } = kinds['a vqgan against a discriminator, its codebook by averages']
  const trainer = await fresh<ImageTokenizerStep>(t, config, options)
  t.deepEqual(trainer.options.betas, [0.5, 0.9])
  t.deepEqual(trainer.options.discriminator, { start: 2, weight: 0.8, channels: 8, layers: 1 })
  const steps = await collect(trainer.fit(stream(), { steps: 4 }))
  t.deepEqual(
    steps.map((step) => step.discriminator !== undefined),
    [false, false, true, true],
  )
  const { adversarial, fakeLogit, adaptiveWeight, loss, reconstruction, absolute, commitment } = steps[3]!
  t.is(adversarial, -fakeLogit!)
  t.true(adaptiveWeight! > 0)
  // by averages the codebook has no term of its own
  const total = reconstruction + absolute + commitment + adaptiveWeight! * adversarial!
  t.true(Math.abs(loss - total) < 1e-6, `${loss} ${total}`)
  t.false('perceptual' in steps[3]!)
  // held out, in evaluation mode: means over pictures, however they come in batches
  const { images } = imageBatch(50)
  const half = images.length / 2
  const whole = await trainer.evaluate(batchesOf(images))
  const parts = await trainer.evaluate(batchesOf(images.slice(0, half), images.slice(half)))
  t.true(Number.isFinite(whole.realLogit) && whole.realLogit !== whole.fakeLogit)
  t.true(Math.abs(whole.fakeLogit! - parts.fakeLogit!) < 1e-5, `${whole.fakeLogit} ${parts.fakeLogit}`)
  t.false('perceptual' in whole)
})

test('a dvae learns, and its temperature and weight are annealed', async (t) => {
  const { config, options } = kinds['a dvae']
  const trainer = await fresh<DvaeStep>(t, config, { ...options, learningRate: 1e-2 })
  t.is(trainer.kind, 'dvae')
  const same = async function* () {
    for (;;) yield imageBatch(0)
  }
  const steps = await collect(trainer.fit(same(), { steps: 100 }))
  const [first, , , fourth] = steps
  t.is(first!.temperature, 1)
  t.is(first!.divergenceWeight, 0)
  t.is(fourth!.divergenceWeight, 2)
  t.true(Math.abs(fourth!.temperature - 0.75) < 1e-12) // half the way
  t.is(steps.at(-1)!.temperature, 0.5)
  const mean = (key: 'likelihood' | 'reconstruction', part: DvaeStep[]) =>
    part.reduce((sum, step) => sum + step[key], 0) / part.length
  t.true(mean('likelihood', steps.slice(-10)) < mean('likelihood', steps.slice(0, 10)) - 0.2)
  t.true(mean('reconstruction', steps.slice(-10)) < 0.8 * mean('reconstruction', steps.slice(0, 10)))
  const { loss, likelihood, divergence } = steps.at(-1)!
  t.true(Math.abs(loss - likelihood - (2 / 12) * divergence) < 1e-6)
  const held = await trainer.evaluate(batchesOf(imageBatch(1000).images))
  t.true(held.images === 2 && held.codesUsed >= 1 && held.psnr > 0)
  t.false('fakeLogit' in held)
})

test('what cannot be trained so is refused before it begins', async (t) => {
  const invalid = 'ERR_VILG_INVALID_ARGUMENT'
  const create = (config: typeof vqgan | typeof dvae, options: object) => () => fresh(t, config, options)
  await refuses(t, create(vqgan, { discriminator: {} }), invalid, 'at least 32 x 32', '8 x 8')
  await refuses(t, create(vqgan, { discriminator: { layer: 1 } }), invalid, 'layer')
  await refuses(t, create(vqgan, { temperature: 1 }), invalid, 'temperature')
  await refuses(t, create(dvae, { reviveAfter: 1 }), invalid, 'reviveAfter')
  await refuses(t, create(dvae, { temperature: 0 }), invalid, 'temperature')
  await refuses(t, create(dvae, { temperature: { from: 1, to: 0.5 } }), invalid, 'temperature.steps')
  await refuses(t, create(vqgan, { codebookAverages: { decay: 1 } }), invalid, 'codebookAverages.decay')
  await refuses(t, create(vqgan, { codebookRate: {} as never }), invalid, 'codebookRate.weight')
  await refuses(t, create(vqgan, { codebookRate: { weight: 1, decay: 1 } }), invalid, 'codebookRate.decay')
  const missing = join(await temporaryFolder(t), 'lpips.safetensors')
  await refuses(t, create(vqgan, { perceptual: { weights: missing } }), invalid, '16 x 16', '8 x 8')
  const larger = { ...vqgan, resolution: 16 } as never
  await refuses(t, create(larger, { perceptual: { weights: missing } }), 'ERR_VILG_IO', 'lpips.safetensors')
  await refuses(
    t,
    create(larger, { perceptual: { weights: join(fixture('taming-vqgan-tiny'), 'weights.safetensors') } }),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'LPIPS',
    'features.0.weight',
  )
})

test('a checkpoint without a discriminator does not resume with one, nor the other way round', async (t) => {
  const folder = await temporaryFolder(t)
  const trainer = await fresh(t, vqgan, {})
  await collect(trainer.fit(stream(), { steps: 1 }))
  await trainer.save(folder)
  const discriminator = { channels: 8, layers: 1 }
  await refuses(
    t,
    Trainer.resume(folder, { discriminator }),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'discriminator',
  )
})

test('a run says that it has no perceptual loss', async (t) => {
  const folder = await temporaryFolder(t)
  const shown: string[] = []
  const { trainer } = await trainRun<ImageTokenizerStep, Trainer<ImageTokenizerStep>>(folder, {
    settings: {},
    steps: 1,
    create: () => fresh<ImageTokenizerStep>(t, vqgan, {}),
    resume: (path) => Trainer.resume(path),
    batches: stream,
    progress: { write: (text: string) => shown.push(text) > 0 } as never,
  })
  await trainer.dispose()
  t.regex(shown.join(''), /no perceptual loss/)
  const [start] = (await readFile(join(folder, 'log.jsonl'), 'utf8')).split('\n')
  t.regex((JSON.parse(start!) as { notes: string[] }).notes[0]!, /no perceptual loss/)
})
