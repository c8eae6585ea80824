// Everything above the ops on a CUDA device: the same classes, and what they give is what the CPU gives.
import { emulatedPlugin } from './emulated.ts'

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  backendInfo,
  Generator,
  ImageTokenizer,
  kernels,
  Matcher,
  Sampler,
  Trainer,
} from '../../lib/index.ts'
import { lively, randomBatch, randomFrom, refuses, relativeError, tinyConfig } from '../model/helpers.ts'
import { picture, tinyBundle } from '../sampler/bundle.ts'
import { collect } from '../trainer/fake.ts'

const prompt = '红苹果'

async function temporary(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-cuda-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

async function* arrayStream<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

function randomFloats(count: number, seed: number): Float32Array {
  const random = randomFrom(seed)
  return Float32Array.from({ length: count }, () => 2 * random() - 1)
}

test('backendInfo describes the device; auto does not take an emulated one', (t) => {
  const { device, cuda, fallbackReason } = backendInfo()
  t.is(device, 'cpu')
  t.regex(fallbackReason!, /emulation/)
  t.is(cuda!.plugin, emulatedPlugin)
  t.is(cuda!.devices.length, 1)
  const [found] = cuda!.devices
  t.like(found, { device: 'cuda:0', emulated: true, computeCapability: '8.0' })
  t.true(found!.memory.available > 0 && found!.memory.available <= found!.memory.total)
  t.true('missing' in cuda!.libraries['cublasLt']!)
})

test('a device that is not there is refused with how many there are', async (t) => {
  await refuses(
    t,
    Generator.create(tinyConfig(), { device: 'cuda:1' }),
    'ERR_VILG_UNSUPPORTED',
    '1 CUDA device',
  )
  const four = new Float32Array(4)
  await refuses(
    t,
    kernels.matmul(four, four, { m: 2, n: 2, k: 2, device: 'cuda', backend: 'ref' }),
    'ERR_VILG_INVALID_ARGUMENT',
    'backend',
  )
})

test('kernels: the same results as the CPU', async (t) => {
  const [a, b] = [randomFloats(12 * 40, 1), randomFloats(40 * 9, 2)]
  const sizes = { m: 12, n: 9, k: 40 }
  const [expected, actual] = await Promise.all([
    kernels.matmul(a, b, { ...sizes, device: 'cpu' }),
    kernels.matmul(a, b, { ...sizes, device: 'cuda' }),
  ])
  t.true(relativeError(actual, expected) < 1e-6)

  const stream = { pattern: 'conv', direction: 'text-to-image', textLength: 5, grid: 4, kernel: 3 } as const
  const [q, k, v] = [3, 4, 5].map((seed) => randomFloats(22 * 2 * 16, seed)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ]
  const shape = { ...stream, heads: 2, headSize: 16 }
  const timings = new Float64Array(2)
  const attended = await kernels.sparseAttention(q, k, v, { ...shape, device: 'cuda', timings })
  const wanted = await kernels.sparseAttention(q, k, v, { ...shape, device: 'cpu' })
  t.true(relativeError(attended.out, wanted.out) < 1e-5)
  t.true(timings.every((time) => time > 0))

  const vectors = randomFloats(30 * 8, 6)
  const codebook = randomFloats(50 * 8, 7)
  const lookup = { size: 50, dim: 8 }
  t.deepEqual(
    await kernels.codebookLookup(vectors, codebook, { ...lookup, device: 'cuda' }),
    await kernels.codebookLookup(vectors, codebook, { ...lookup, device: 'cpu' }),
  )
})

test('a generator draws and describes as on the CPU', async (t) => {
  const onCpu = new Sampler(await tinyBundle(t))
  const onDevice = new Sampler(await tinyBundle(t, { device: 'cuda' }))
  t.is(onDevice.model.generator.device, 'cuda:0')
  t.is(onDevice.model.imageTokenizer.device, 'cuda:0')
  const options = { count: 3, seed: 5, temperature: 1 }
  const [expected, actual] = [
    await onCpu.textToImage(prompt, options),
    await onDevice.textToImage(prompt, options),
  ]
  expected.forEach((image, i) => {
    // float32 on both sides: logits differ by rounding alone, and the draw is the same arithmetic
    t.deepEqual(actual[i]!.tokens, image.tokens)
    t.true(Math.abs(actual[i]!.logProbability - image.logProbability) < 1e-3)
    const difference = actual[i]!.pixels.map((x, at) => Math.abs(x - image.pixels[at]!))
    t.true(Math.max(...difference) <= 1)
  })
  const [described, wanted] = [
    await onDevice.imageToText(picture(3), { beams: 3 }),
    await onCpu.imageToText(picture(3), { beams: 3 }),
  ]
  t.deepEqual(
    described.map(({ text }) => text),
    wanted.map(({ text }) => text),
  )
})

test('the same candidates, however many are drawn at once, and again', async (t) => {
  const sampler = new Sampler(await tinyBundle(t, { device: 'cuda', precision: 'bfloat16' }))
  const draw = async (count: number) =>
    (await sampler.textToImage(prompt, { count, seed: 9 })).map(({ tokens }) => tokens.join())
  const five = await draw(5)
  t.deepEqual(await draw(5), five)
  t.deepEqual(await draw(1), five.slice(0, 1))
})

test('an abort stops drawing on the device', async (t) => {
  const sampler = new Sampler(await tinyBundle(t, { device: 'cuda' }))
  const controller = new AbortController()
  const reason = new Error('enough')
  const error = await t.throwsAsync(
    sampler.textToImage(prompt, { signal: controller.signal, onProgress: () => controller.abort(reason) }),
  )
  t.is(error, reason)
})

test('training on the device goes where it goes on the CPU, and resumes bit for bit', async (t) => {
  const options = { learningRate: 1e-2, warmupSteps: 1 } as const
  const random = randomFrom(3)
  const { textLength, textVocab, imageVocab, grid } = tinyConfig()
  const batches = [0, 1, 2, 3].map(() => ({
    text: Int32Array.from({ length: 2 * textLength }, () => Math.floor(random() * textVocab)),
    textValid: new Uint8Array(2 * textLength).fill(1),
    image: Int32Array.from({ length: 2 * grid ** 2 }, () => Math.floor(random() * imageVocab)),
  }))
  const losses = async (trainer: Trainer, from: number, steps: number) => {
    const seen = await collect(trainer.fit(arrayStream(batches.slice(from)), { steps }))
    return seen.map(({ loss }) => loss)
  }
  await using onCpu = new Trainer(await lively(t), options)
  const expected = await losses(onCpu, 0, 4)

  const folder = join(await temporary(t), 'run')
  await using onDevice = new Trainer(await lively(t, {}, { device: 'cuda' }), options)
  const actual = await losses(onDevice, 0, 2)
  await onDevice.save(folder)
  actual.push(...(await losses(onDevice, 2, 2)))
  actual.forEach((loss, i) => t.true(Math.abs(loss / expected[i]! - 1) < 1e-3, `step ${i}: ${loss}`))

  await using resumed = await Trainer.resume(folder, { device: 'cuda' })
  t.teardown(() => resumed.target.dispose())
  t.is(resumed.target.device, 'cuda:0')
  t.deepEqual(await losses(resumed as typeof onDevice, 2, 2), actual.slice(2))
})

test('a matcher embeds, compares and trains as on the CPU', async (t) => {
  const config = { ...tinyConfig(), layers: 2, dim: 8 }
  const batch = randomBatch(config, 3, 2)
  const results = []
  for (const device of ['cpu', 'cuda'] as const) {
    await using matcher = await Matcher.create(config, { device, seed: 1 })
    const cosines = await matcher.similarity(batch.image, batch)
    await using trainer = new Trainer(matcher, { learningRate: 1e-3 })
    const losses: number[] = []
    for await (const { loss } of trainer.fit(arrayStream([batch, batch, batch]))) losses.push(loss)
    results.push({ cosines, losses })
  }
  const [cpu, cuda] = results
  t.true(relativeError(cuda!.cosines, cpu!.cosines) < 1e-4)
  cuda!.losses.forEach((loss, i) => t.true(Math.abs(loss / cpu!.losses[i]! - 1) < 1e-3, `step ${i}: ${loss}`))
})

test('an image tokenizer encodes and decodes as on the CPU', async (t) => {
  const { imageTokenizer: cpu } = await tinyBundle(t)
  const { imageTokenizer: cuda } = await tinyBundle(t, { device: 'cuda' })
  const pixels = randomFloats(2 * 3 * 8 * 8, 8)
  const [expected, actual] = [await cpu.encode(pixels, { count: 2 }), await cuda.encode(pixels, { count: 2 })]
  t.deepEqual(actual.indices, expected.indices)
  t.true(relativeError(actual.prequant, expected.prequant) < 1e-5)
  const [wanted, decoded] = [
    await cpu.decode(expected.indices, { count: 2 }),
    await cuda.decode(expected.indices, { count: 2 }),
  ]
  t.true(relativeError(decoded, wanted) < 1e-5)
})

test('models of both devices work at once', async (t) => {
  const one = await ImageTokenizer.create(
    {
      quantizer: 'nearest',
      resolution: 8,
      channels: 32,
      multipliers: [1, 1],
      residualBlocks: 1,
      attentionResolutions: [],
      latentChannels: 8,
      codebookSize: 5,
      codebookDim: 4,
    },
    { device: 'cuda', seed: 1 },
  )
  t.teardown(() => one.dispose())
  const sampler = new Sampler(await tinyBundle(t, { device: 'cuda' }))
  const codes = Int32Array.from({ length: 16 }, (_, i) => i % 5)
  const alone = await one.decode(codes)
  const [images, ...decoded] = await Promise.all([
    sampler.textToImage(prompt, { seed: 1 }),
    one.decode(codes),
    one.decode(codes),
  ])
  t.is(images.length, 1)
  for (const again of decoded) t.deepEqual(again, alone)
})
