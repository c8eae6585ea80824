import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Matcher, type MatcherStep, type TokenBatch, Trainer } from '../../lib/index.ts'
import { randomBatch, randomFrom, refuses, temporaryFolder } from '../model/helpers.ts'

const config = {
  layers: 2,
  hidden: 32,
  heads: 2,
  textVocab: 20,
  imageVocab: 24,
  textLength: 6,
  grid: 3,
  kernel: 3,
  dim: 16,
}

async function fresh(t: ExecutionContext, seed = 1) {
  const matcher = await Matcher.create(config, { seed })
  t.teardown(() => matcher.dispose())
  return matcher
}

async function* repeat(...batches: TokenBatch[]) {
  for (let i = 0; ; i++) yield batches[i % batches.length]!
}

async function steps(trainer: Trainer<MatcherStep>, data: AsyncIterable<TokenBatch>, count: number) {
  const all: MatcherStep[] = []
  for await (const step of trainer.fit(data, { steps: count })) all.push(step)
  return all
}

/** A text names the two colours of its picture, in the order of its rows; the rest is noise. */
function colors(pairs: number, random: () => number): TokenBatch {
  const batch = {
    text: new Int32Array(pairs * 6),
    textValid: new Uint8Array(pairs * 6).fill(1),
    image: new Int32Array(pairs * 9),
  }
  for (let i = 0; i < pairs; i++) {
    const [first, second] = [Math.floor(random() * 8), Math.floor(random() * 8)]
    batch.text.set([0, 1 + first, 10 + second, Math.floor(random() * 20), 19, 0], i * 6)
    batch.textValid[i * 6 + 5] = 0
    for (let p = 0; p < 9; p++) {
      batch.image[i * 9 + p] = p < 3 ? first : p >= 6 ? 8 + second : 16 + Math.floor(random() * 8)
    }
  }
  return batch
}

test('a batch is learnt by heart; steps say what they came to', async (t) => {
  await using trainer = new Trainer(await fresh(t), { learningRate: 5e-3 })
  t.is(trainer.kind, 'matcher')
  const batch = randomBatch(config, 8, 2)
  const all = await steps(trainer, repeat(batch), 60)
  const [first, last] = [all[0]!, all.at(-1)!]
  // of eight that all look alike, the loss is log 8
  t.true(Math.abs(first.loss - Math.log(8)) < 0.7, String(first.loss))
  t.true(Math.abs(first.temperature - 0.07) < 1e-6)
  t.true(last.loss < 0.05, String(last.loss))
  t.is(last.imageToTextAccuracy, 1)
  t.is(last.textToImageAccuracy, 1)
  t.true(last.flopsPerSecond > 0 && last.tokensPerSecond > 0)
  t.not(last.temperature, first.temperature)
})

test('retrieval of pairs that training never saw improves', async (t) => {
  await using trainer = new Trainer(await fresh(t), { learningRate: 3e-3 })
  const random = randomFrom(9)
  async function* data() {
    for (;;) yield colors(24, random)
  }
  const heldOut = colors(32, randomFrom(4))
  const half = (from: number, to: number): TokenBatch => ({
    text: heldOut.text.slice(from * 6, to * 6),
    textValid: heldOut.textValid.slice(from * 6, to * 6),
    image: heldOut.image.slice(from * 9, to * 9),
  })
  async function* parts() {
    yield half(0, 20)
    yield half(20, 32)
  }
  const before = await trainer.evaluate(parts())
  t.is(before.pairs, 32)
  await steps(trainer, data(), 120)
  const after = await trainer.evaluate(parts())
  // all 32 are compared with each other, however they come
  t.deepEqual(after, { ...(await trainer.target.compare(heldOut)), pairs: 32 })
  t.true(after.loss < before.loss - 1, `${before.loss} ${after.loss}`)
  // a few of 32 are of the same two colours, which nothing can tell apart
  t.true(after.imageToTextAccuracy > 0.6 && before.imageToTextAccuracy < 0.3, JSON.stringify([before, after]))
  t.true(after.textToImageAccuracy > 0.6 && before.textToImageAccuracy < 0.3)
})

test('it goes on bit for bit', async (t) => {
  const folder = join(await temporaryFolder(t), 'checkpoint')
  const batches = [1, 2, 3].map((seed) => randomBatch(config, 5, seed))
  await using straight = new Trainer(await fresh(t), { learningRate: 5e-3, accumulate: 3, weightDecay: 0.1 })
  await steps(straight, repeat(...batches), 3)
  await straight.save(folder)
  const expected = await steps(straight, repeat(...batches), 3)
  await using resumed = await Trainer.resume<MatcherStep>(folder)
  t.true(resumed.target instanceof Matcher)
  const again = await steps(resumed, repeat(...batches), 3)
  const essence = ({ step, loss, gradientNorm, temperature }: MatcherStep) => [
    step,
    loss,
    gradientNorm,
    temperature,
  ]
  t.deepEqual(again.map(essence), expected.map(essence))
  t.deepEqual(
    await resumed.target.embedImage(batches[0]!.image),
    await straight.target.embedImage(batches[0]!.image),
  )
})

test('micro-batches have negatives of their own, and count by their pairs', async (t) => {
  const matcher = await fresh(t)
  const [small, large] = [randomBatch(config, 2, 1), randomBatch(config, 6, 2)]
  const apart = [await matcher.compare(small), await matcher.compare(large)]
  await using trainer = new Trainer(matcher, { accumulate: 2 })
  const [step] = await steps(trainer, repeat(small, large), 1)
  t.true(Math.abs(step!.loss - (2 * apart[0]!.loss + 6 * apart[1]!.loss) / 8) < 1e-6)
})

test('layers that run again give the same steps', async (t) => {
  const batch = randomBatch(config, 4, 3)
  const results = []
  for (const recompute of [false, true]) {
    await using trainer = new Trainer(await fresh(t), { recompute, precision: 'bfloat16' })
    const all = await steps(trainer, repeat(batch), 3)
    results.push(all.map(({ loss, gradientNorm }) => [loss, gradientNorm]))
  }
  t.deepEqual(results[1], results[0])
})

test('what does not fit is refused', async (t) => {
  const matcher = await fresh(t)
  t.throws(() => new Trainer(matcher, { labelSmoothing: 0.1 }), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
    message: /labelSmoothing/,
  })
  await using trainer = new Trainer(matcher)
  const one = randomBatch(config, 1, 1)
  await refuses(t, steps(trainer, repeat(one), 1), 'ERR_VILG_INVALID_ARGUMENT', 'two pairs')
  const batch = randomBatch(config, 2, 1)
  const short = { ...batch, image: batch.image.slice(9) }
  await refuses(t, steps(trainer, repeat(short), 1), 'ERR_VILG_SHAPE_MISMATCH', 'image')
  async function* nothing() {}
  await refuses(t, trainer.evaluate(nothing()), 'ERR_VILG_INVALID_ARGUMENT', 'batch')
  await using half = await Matcher.create(config, { precision: 'bfloat16' })
  t.throws(() => new Trainer(half), { code: 'ERR_VILG_UNSUPPORTED' })
  t.is(trainer.step, 0)
})
