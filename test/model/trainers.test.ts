import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { NativeOptimizerOptions } from '../../types/native-models.d.ts'
import { Generator, ImageTokenizer, SafetensorsFile, writeSafetensors } from '../../lib/index.ts'
import { native, stopped } from '../../lib/native/binding.ts'
import {
  fixture,
  lively,
  randomBatch,
  randomFrom,
  refuses,
  relativeError,
  temporaryFolder,
  tinyConfig,
} from './helpers.ts'

const options: NativeOptimizerOptions = {
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.01,
  clipNorm: 1,
  compute: 'float32',
  recompute: false,
  groups: [],
}
const both = { textToImageWeight: 1, imageToTextWeight: 1, labelSmoothing: 0.1, zLoss: 1e-4 }
const terms = { reconstruction: 1, absolute: 0.5, commitment: 1, codebook: 0.25 }

function trainerOf(t: ExecutionContext, generator: Generator, changes: Partial<NativeOptimizerOptions> = {}) {
  const trainer = native().createGeneratorTrainer(generator.handle, { ...options, ...changes })
  t.teardown(() => trainer.dispose())
  const batches = [1, 2, 3, 4].map((seed) => randomBatch(generator.config, 2, seed))
  const accumulate = (i: number, scale = 1, stop?: InstanceType<ReturnType<typeof native>['StopFlag']>) => {
    const { text, textValid, image } = batches[i % batches.length]!
    return trainer.accumulate(text, textValid, image, 2, undefined, both, scale, stop && { stop })
  }
  return { trainer, batches, accumulate }
}

/** Every weight, by name. */
async function tensorsOf(t: ExecutionContext, model: Generator): Promise<Map<string, Float32Array>> {
  const folder = await temporaryFolder(t)
  await model.save(folder)
  await using file = await SafetensorsFile.open(join(folder, 'weights.safetensors'))
  const values = new Map<string, Float32Array>()
  for (const name of file.tensors.keys()) values.set(name, await file.readFloat32(name))
  return values
}

/** Every weight, by its bytes. */
async function weights(t: ExecutionContext, model: Generator | ImageTokenizer): Promise<Buffer> {
  const folder = await temporaryFolder(t)
  await model.save(folder)
  return readFile(join(folder, 'weights.safetensors'))
}

test('training learns a batch by heart', async (t) => {
  const generator = await Generator.create(tinyConfig(), { seed: 3 })
  t.teardown(() => generator.dispose())
  const { trainer, accumulate } = trainerOf(t, generator)
  const first = await accumulate(0)
  for (let i = 0; i < 150; i++) {
    if (i > 0) await accumulate(0)
    const { applied, gradientNorm } = await trainer.apply(5e-3)
    t.true(applied && gradientNorm > 0)
  }
  t.is(trainer.steps, 150)
  const last = await accumulate(0)
  t.true(first.textToImage > 2.5 && first.imageToText > 2.5, `${first.textToImage} ${first.imageToText}`)
  // smoothing by 0.1 has a floor of some 0.5 nats
  t.true(last.textToImage < 1 && last.imageToText < 1, `${last.textToImage} ${last.imageToText}`)
})

for (const compute of ['float32', 'bfloat16'] as const) {
  test(`${compute}: a resumed run is the uninterrupted one, bit for bit`, async (t) => {
    const path = join(await temporaryFolder(t), 'state.safetensors')
    const run = async (generator: Generator, from: number, to: number, load = false, save = false) => {
      const { trainer, accumulate } = trainerOf(t, generator, { compute })
      if (load) await trainer.loadState(path)
      t.is(trainer.steps, from)
      const losses = []
      for (let i = from; i < to; i++) {
        losses.push(await accumulate(2 * i, 0.5), await accumulate(2 * i + 1, 0.5))
        losses.push(await trainer.apply(1e-3 * (i + 1)))
      }
      if (save) await trainer.saveState(path)
      return losses
    }
    const straight = await lively(t)
    const interrupted = await lively(t)
    const resumed = await Generator.create(tinyConfig(), { seed: 99 })
    t.teardown(() => resumed.dispose())
    const all = await run(straight, 0, 6)
    const before = await run(interrupted, 0, 3, false, true)
    const after = await run(resumed, 3, 6, true)
    t.deepEqual([...before, ...after], all)
    t.deepEqual(await weights(t, resumed), await weights(t, straight))
    t.notDeepEqual(await weights(t, interrupted), await weights(t, straight))
  })
}

test('an image tokenizer resumes bit for bit, revived codes and all', async (t) => {
  const folder = fixture('taming-vqgan-tiny')
  const path = join(await temporaryFolder(t), 'state.safetensors')
  const random = randomFrom(1)
  const images = Array.from({ length: 4 }, () =>
    Float32Array.from({ length: 3 * 32 * 32 }, () => 2 * random() - 1),
  )
  const run = async (tokenizer: ImageTokenizer, from: number, to: number, load = false, save = false) => {
    const trainer = native().createImageTokenizerTrainer(tokenizer.handle, options)
    t.teardown(() => trainer.dispose())
    if (load) await trainer.loadState(path)
    const log: unknown[] = []
    for (let i = from; i < to; i++) {
      log.push(await trainer.accumulate(images[i % 4]!, 1, terms, 1), await trainer.apply(1e-3))
      log.push(await trainer.revive(2, i))
    }
    if (save) await trainer.saveState(path)
    return log
  }
  const [straight, interrupted, resumed] = await Promise.all([1, 2, 3].map(() => ImageTokenizer.load(folder)))
  t.teardown(() => Promise.all([straight!.dispose(), interrupted!.dispose(), resumed!.dispose()]))
  const all = await run(straight!, 0, 6)
  t.true(
    all.filter((entry) => typeof entry === 'number').some((revived) => revived > 0),
    'some code was dead',
  )
  const before = await run(interrupted!, 0, 3, false, true)
  const after = await run(resumed!, 3, 6, true)
  t.deepEqual([...before, ...after], all)
  t.deepEqual(await weights(t, resumed!), await weights(t, straight!))
})

test('a codebook that begins at encoder outputs fits the picture better', async (t) => {
  const tokenizer = await ImageTokenizer.load(fixture('taming-vqgan-tiny'))
  t.teardown(() => tokenizer.dispose())
  const random = randomFrom(1)
  const images = Float32Array.from({ length: 3 * 32 * 32 }, () => 2 * random() - 1)
  const trainer = native().createImageTokenizerTrainer(tokenizer.handle, options)
  t.teardown(() => trainer.dispose())
  const before = await trainer.accumulate(images, 1, terms, 1)
  await trainer.initializeCodebook(images, 1, 7)
  const after = await trainer.accumulate(images, 1, terms, 1)
  t.true(
    after.losses.codebook < before.losses.codebook / 2,
    `${before.losses.codebook} ${after.losses.codebook}`,
  )
  t.true(after.codesUsed > before.codesUsed && after.perplexity > before.perplexity)
})

test('gradients() does not disturb what a trainer has gathered, nor two trainers each other', async (t) => {
  const one = await lively(t)
  const two = await lively(t)
  const [a, b] = [trainerOf(t, one), trainerOf(t, two)]
  const other = trainerOf(t, two)
  await a.accumulate(0)
  await b.accumulate(0)
  const { gradients } = await two.gradients(b.batches[1]!, { direction: 'text-to-image' })
  await other.accumulate(2)
  t.true(gradients.get('blocks.0.mlp_in.weight')!.some((x) => x !== 0))
  t.deepEqual(await b.trainer.apply(1e-3), await a.trainer.apply(1e-3))
  t.deepEqual(await weights(t, two), await weights(t, one))
})

test('after a stop the gradient is zero, even where the call had not begun', async (t) => {
  const generator = await lively(t)
  const { trainer, accumulate } = trainerOf(t, generator)
  await accumulate(0)
  const stop = new (native().StopFlag)()
  stop.raise()
  t.is(await t.throwsAsync(accumulate(1, 1, stop), { any: true }), stopped as never)
  const { gradientNorm, applied } = await trainer.apply(0)
  t.is(gradientNorm, 0)
  t.true(applied)
})

test('a trainer does one thing at a time, and forward passes beside it see whole updates', async (t) => {
  const generator = await lively(t, { layers: 8, hidden: 48, grid: 5 })
  const { trainer, accumulate, batches } = trainerOf(t, generator)
  const busy = accumulate(0)
  await refuses(t, async () => trainer.apply(1e-3), 'ERR_VILG_BUSY', 'trainer')
  await busy
  // forward passes before and after the update, and those that wait for it: one of the two losses each
  const direction = 'text-to-image'
  const before = (await generator.forward(batches[0]!, { direction })).loss
  const update = trainer.apply(1e-2)
  const during = await Promise.all([1, 2, 3].map(() => generator.forward(batches[0]!, { direction })))
  await update
  const after = (await generator.forward(batches[0]!, { direction })).loss
  t.not(before, after)
  for (const { loss } of during) t.true(loss === before || loss === after, `${loss} of ${before}, ${after}`)
})

test('a gradient that is not finite changes nothing', async (t) => {
  const generator = await lively(t)
  const before = await weights(t, generator)
  const { trainer, accumulate, batches } = trainerOf(t, generator)
  const { text, textValid, image } = batches[0]!
  await trainer.accumulate(text, textValid, image, 2, undefined, { ...both, zLoss: 1e30 }, 1e10)
  const { applied, gradientNorm } = await trainer.apply(1e-3)
  t.false(applied)
  t.false(Number.isFinite(gradientNorm))
  t.is(trainer.steps, 0)
  t.deepEqual(await weights(t, generator), before)
  await accumulate(0)
  t.true((await trainer.apply(1e-3)).applied, 'and the next step is sound')
})

test('what cannot be trained is refused at once', async (t) => {
  const half = await lively(t, {}, { precision: 'bfloat16' })
  t.throws(() => native().createGeneratorTrainer(half.handle, options), { code: 'ERR_VILG_UNSUPPORTED' })
  const gumbel = await ImageTokenizer.load(fixture('taming-gumbel-tiny'))
  t.teardown(() => gumbel.dispose())
  const refused = { code: 'ERR_VILG_UNSUPPORTED', message: /nearest/ }
  t.throws(() => native().createImageTokenizerTrainer(gumbel.handle, options), refused)
  const generator = await lively(t)
  const bad = (changes: object) => () =>
    native().createGeneratorTrainer(generator.handle, { ...options, ...changes })
  for (const changes of [
    { beta1: 1 },
    { beta2: -0.1 },
    { epsilon: 0 },
    { clipNorm: NaN },
    { compute: 'float16' },
  ]) {
    t.throws(bad(changes), { code: 'ERR_VILG_INVALID_ARGUMENT' }, JSON.stringify(changes))
  }
})

test('a state that does not fit is refused and changes nothing', async (t) => {
  const folder = await temporaryFolder(t)
  const path = join(folder, 'state.safetensors')
  const generator = await lively(t)
  const { trainer, accumulate } = trainerOf(t, generator)
  await accumulate(0)
  await trainer.apply(1e-3)
  await trainer.saveState(path)

  const before = await weights(t, generator)
  const file = await SafetensorsFile.open(path)
  const tensors = await Promise.all(
    [...file.tensors.values()].map(async ({ name, shape }) => ({
      name,
      shape: [...shape],
      data: await file.readFloat32(name),
    })),
  )
  const metadata = file.metadata
  await file.dispose()
  const refusal = async (change: (all: typeof tensors) => typeof tensors, ...words: string[]) => {
    const changed = join(folder, 'changed.safetensors')
    await writeSafetensors(changed, change(structuredClone(tensors)), { metadata })
    await refuses(t, trainer.loadState(changed), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', ...words)
  }
  const moment = 'm.blocks.1.mlp_in.weight'
  await refusal((all) => all.filter(({ name }) => name !== moment), moment)
  await refusal((all) => [...all, { name: 'more', shape: [1], data: new Float32Array(1) }], 'tensors')
  await refusal(
    (all) => all.map((one) => (one.name === moment ? { ...one, shape: [24, 96] } : one)),
    moment,
    '[96, 24]',
    '[24, 96]',
  )
  await writeSafetensors(join(folder, 'plain.safetensors'), tensors)
  await refuses(
    t,
    trainer.loadState(join(folder, 'plain.safetensors')),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'format',
  )
  await writeFile(join(folder, 'cut.safetensors'), (await readFile(path)).subarray(0, 5000))
  await refuses(t, trainer.loadState(join(folder, 'cut.safetensors')), 'ERR_VILG_CHECKPOINT_FORMAT')
  await refuses(t, trainer.loadState(join(folder, 'none')), 'ERR_VILG_IO')
  t.deepEqual(await weights(t, generator), before)

  const tokenizer = await ImageTokenizer.load(fixture('taming-vqgan-tiny'))
  t.teardown(() => tokenizer.dispose())
  const other = native().createImageTokenizerTrainer(tokenizer.handle, options)
  await refuses(t, other.loadState(path), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'image-tokenizer', 'generator')
  other.dispose()
})

test('groups: frozen weights stay, others learn at their own rate', async (t) => {
  // Without clipping the first update of a weight is the same whatever the other weights do.
  const changes = { clipNorm: 0 }
  const after = async (groups: NativeOptimizerOptions['groups'], learningRate: number) => {
    const generator = await lively(t)
    const { trainer, accumulate } = trainerOf(t, generator, { ...changes, groups })
    await accumulate(0)
    await trainer.apply(learningRate)
    return tensorsOf(t, generator)
  }
  const fresh = await tensorsOf(t, await lively(t))
  const one = await after([], 1e-3)
  const half = await after([], 5e-4)
  const mixed = await after(
    [
      { weights: ['text_embedding.weight', 'blocks.0.*'], learningRateScale: 0 },
      { weights: ['blocks.*_norm.weight', '*_head.bias'], learningRateScale: 0.5 },
      { weights: ['blocks.0.mlp_in.weight'], learningRateScale: 1 }, // the first group has it already
    ],
    1e-3,
  )
  t.deepEqual([...mixed.keys()], [...one.keys()])
  for (const [name, values] of mixed) {
    const frozen = name === 'text_embedding.weight' || name.startsWith('blocks.0.')
    const halved = /^(blocks\..*_norm\.weight|.*_head\.bias)$/.test(name)
    t.deepEqual(values, (frozen ? fresh : halved ? half : one).get(name), name)
    if (!frozen) t.notDeepEqual(values, fresh.get(name), name)
  }
})

test('groups: weight decay of their own', async (t) => {
  const weightOf = async (weightDecay: number, groups: NativeOptimizerOptions['groups'] = []) => {
    const generator = await lively(t)
    const { trainer, accumulate } = trainerOf(t, generator, { clipNorm: 0, weightDecay, groups })
    await accumulate(0)
    await trainer.apply(1e-2)
    const all = await tensorsOf(t, generator)
    return [all.get('blocks.1.mlp_in.weight'), all.get('blocks.2.mlp_in.weight')]
  }
  const [decayed] = await weightOf(0.5)
  const [, plain] = await weightOf(0)
  const group = { weights: ['blocks.1.*'], learningRateScale: 1, weightDecay: 0.5 }
  t.deepEqual(await weightOf(0, [group]), [decayed, plain])
})

test('groups: what is frozen below a layer is not computed, and gives the same gradients above it', async (t) => {
  const groups = [
    {
      weights: ['*_embedding.weight', '*_position.weight', 'image_start', 'modality.weight'],
      learningRateScale: 0,
    },
    { weights: ['blocks.0.*', 'blocks.1.*'], learningRateScale: 0 },
  ]
  for (const recompute of [false, true]) {
    const top = async (given: NativeOptimizerOptions['groups']) => {
      const generator = await lively(t)
      const { trainer, accumulate } = trainerOf(t, generator, { clipNorm: 0, groups: given, recompute })
      await accumulate(0)
      await trainer.apply(1e-3)
      const all = await tensorsOf(t, generator)
      return [...all].filter(([name]) => /^blocks\.[2-9]|^final|head/.test(name))
    }
    t.deepEqual(await top(groups), await top([]), String(recompute))
  }
})

test('groups that cannot be', async (t) => {
  const generator = await lively(t)
  const make = (groups: NativeOptimizerOptions['groups']) => () =>
    native().createGeneratorTrainer(generator.handle, { ...options, groups })
  t.throws(make([{ weights: ['block.0.*'], learningRateScale: 0 }]), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
    message: /"block\.0\.\*", which none of \d+ from text_embedding\.weight to image_head\.bias has/,
  })
  t.throws(make([{ weights: ['*'], learningRateScale: 0 }]), { message: /all are frozen/ })
  t.throws(make([{ weights: ['*'], learningRateScale: NaN }]), { code: 'ERR_VILG_INVALID_ARGUMENT' })
})

test('a frozen part has no moments in the state, which goes on bit for bit', async (t) => {
  const groups = [{ weights: ['blocks.0.*', '*embedding*'], learningRateScale: 0 }]
  const path = join(await temporaryFolder(t), 'state.safetensors')
  const straight = await lively(t)
  const run = trainerOf(t, straight, { groups })
  for (let i = 0; i < 2; i++) {
    await run.accumulate(i)
    await run.trainer.apply(1e-3)
  }
  await run.trainer.saveState(path)
  await using file = await SafetensorsFile.open(path)
  t.true(file.tensors.has('blocks.0.mlp_in.weight'))
  t.false(file.tensors.has('m.blocks.0.mlp_in.weight'))
  t.true(file.tensors.has('v.blocks.1.mlp_in.weight'))

  const resumed = await Generator.create(tinyConfig(), { seed: 77 })
  t.teardown(() => resumed.dispose())
  const next = trainerOf(t, resumed, { groups })
  await next.trainer.loadState(path)
  for (const { accumulate, trainer } of [run, next]) {
    await accumulate(2)
    await trainer.apply(1e-3)
  }
  t.deepEqual(await weights(t, resumed), await weights(t, straight))
  const other = trainerOf(t, await lively(t))
  await refuses(
    t,
    other.trainer.loadState(path),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'm.text_embedding.weight',
  )
})

test('only the tokens asked for are predicted', async (t) => {
  const generator = await lively(t)
  const batch = randomBatch(generator.config, 3, 5)
  const { textLength } = generator.config
  const direction = 'image-to-text'
  const whole = await generator.forward(batch, { direction })
  const valid = (i: number) => i % textLength > 0 && batch.textValid[i] === 1
  const first = batch.textValid.map((_, i) => (valid(i) && i % 2 === 0 ? 1 : 0))
  const second = batch.textValid.map((_, i) => (valid(i) && i % 2 === 1 ? 1 : 0))
  const count = (target: Uint8Array) => target.reduce((sum, one) => sum + one, 0)
  const [n1, n2] = [count(first), count(second)]
  t.true(n1 > 0 && n2 > 0)
  const one = await generator.gradients({ ...batch, textTarget: first }, { direction })
  const two = await generator.gradients({ ...batch, textTarget: second }, { direction })
  const both = await generator.gradients(batch, { direction })
  // the loss is the mean over the rows asked for
  let sum = 0
  whole.rowLosses.forEach((loss, row) => {
    const rows = textLength - 1
    if (first[Math.floor(row / rows) * textLength + (row % rows) + 1] === 1) sum += loss
  })
  t.true(Math.abs(one.loss - sum / n1) < 1e-6 * one.loss)
  for (const [name, gradient] of both.gradients) {
    const parts = gradient.map(
      (_, i) => (n1 * one.gradients.get(name)![i]! + n2 * two.gradients.get(name)![i]!) / (n1 + n2),
    )
    t.true(relativeError(parts, gradient) < 1e-5, name)
  }
  // what is not valid is never asked for; drawing does not care
  const all = await generator.gradients({ ...batch, textTarget: batch.textValid.map(() => 1) }, { direction })
  t.deepEqual(all, both)
  t.is(
    (await generator.forward({ ...batch, textTarget: first }, { direction: 'text-to-image' })).loss,
    (await generator.forward(batch, { direction: 'text-to-image' })).loss,
  )
  const none = { ...batch, textTarget: new Uint8Array(batch.text.length) }
  await refuses(t, generator.forward(none, { direction }), 'ERR_VILG_INVALID_ARGUMENT', 'target token')
  const short = { ...batch, textTarget: new Uint8Array(3) }
  await refuses(t, generator.forward(short, { direction }), 'ERR_VILG_SHAPE_MISMATCH', 'textTarget')
  const wrong = { ...batch, textTarget: new Uint8Array(batch.text.length).fill(2) }
  await refuses(t, generator.forward(wrong, { direction }), 'ERR_VILG_INVALID_ARGUMENT', '0 or 1')
})
