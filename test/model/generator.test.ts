import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import {
  backendInfo,
  Generator,
  type GeneratorConfig,
  ImageTokenizer,
  type LoadProgressEvent,
  preset,
  VilgError,
} from '../../lib/index.ts'
import { fixture, lively, randomBatch, refuses, tinyConfig } from './helpers.ts'

const direction = 'text-to-image'

test('a fresh generator: sizes, names, seeds', async (t) => {
  await using one = await Generator.create(tinyConfig(), { seed: 7 })
  await using same = await Generator.create({ ...tinyConfig(), model: 'ernie-vilg-generator' }, { seed: 7 })
  await using other = await Generator.create(tinyConfig(), { seed: 8 })
  const { hidden: H, layers: L, textVocab: Vt, imageVocab: Vz, textLength: M, grid: g } = tinyConfig()
  const block = 12 * H * H + 13 * H
  t.is(one.parameterCount, 2 * (Vt + Vz) * H + Vt + Vz + H * (1 + M + 2 * g + 2) + L * block + 2 * H)
  t.deepEqual(one.config, {
    ...tinyConfig(),
    model: 'ernie-vilg-generator',
    attention: 'sparse',
    modality: true,
    causalText: false,
    imageStart: 'token',
    repeatedStart: false,
    wrappedWindow: false,
    sandwichNorm: false,
    doubleFinalNorm: false,
    padding: 'hidden',
    paddingIds: 0,
  })
  t.true(Object.isFrozen(one.config))
  t.is(one.device, 'cpu')
  t.is(one.precision, 'float32')
  t.false(one.disposed)
  const batch = randomBatch(one.config, 2, 1)
  const { loss, logits, shape } = await one.forward(batch, { direction })
  t.deepEqual(shape, [2, 9, 23])
  t.is(logits.length, 2 * 9 * 23)
  // weights of standard deviation 0.02 predict next to nothing
  t.true(Math.abs(loss - Math.log(23)) < 0.1)
  t.is((await same.forward(batch, { direction })).loss, loss)
  t.not((await other.forward(batch, { direction })).loss, loss)
})

test('unknown, missing and impossible fields of a config are refused by name', async (t) => {
  const create = (changes: object) => () =>
    Generator.create({ ...tinyConfig(), ...changes } as GeneratorConfig)
  await refuses(t, create({ layrs: 3 }), 'ERR_VILG_INVALID_ARGUMENT', 'layrs', 'layers')
  for (const key of Object.keys(tinyConfig())) {
    await refuses(t, create({ [key]: undefined }), 'ERR_VILG_INVALID_ARGUMENT', key, 'undefined')
    for (const bad of [0, -1, 1.5, NaN, '3', 2 ** 40]) {
      await refuses(t, create({ [key]: bad }), 'ERR_VILG_INVALID_ARGUMENT', key)
    }
  }
  await refuses(t, create({ heads: 5 }), 'ERR_VILG_INVALID_ARGUMENT', 'hidden', '5')
  await refuses(t, create({ kernel: 4 }), 'ERR_VILG_INVALID_ARGUMENT', 'odd')
  await refuses(t, create({ attention: 'dense' }), 'ERR_VILG_INVALID_ARGUMENT', 'sparse', 'full', 'dense')
  await refuses(t, create({ model: 'vqgan' }), 'ERR_VILG_INVALID_ARGUMENT', 'ernie-vilg-generator')
  await refuses(t, create({ latentHead: true }), 'ERR_VILG_UNSUPPORTED', 'latentHead')
  await using without = await Generator.create({ ...tinyConfig(), latentHead: false } as GeneratorConfig)
  t.false('latentHead' in without.config)
  const invalid = 'ERR_VILG_INVALID_ARGUMENT'
  await refuses(t, create({ attention: ['row'] }), invalid, 'attention', 'each of 5 layers')
  await refuses(t, create({ attention: ['row', 'row', 'row', 'row', 'all'] }), invalid, 'attention[4]')
  await refuses(t, create({ sandwichNorm: 1 }), invalid, 'sandwichNorm')
  await refuses(t, create({ imageStart: 'text' }), invalid, 'imageStart', 'causalText')
  await refuses(t, create({ imageStart: 'text', causalText: true }), invalid, 'padding')
  await refuses(t, create({ repeatedStart: true }), invalid, 'repeatedStart', 'imageStart')
  await refuses(t, create({ paddingIds: 3 }), invalid, 'paddingIds', 'padding')
  await refuses(t, create({ padding: 'seen', paddingIds: 13 }), invalid, 'paddingIds', '12')
  for (const bad of [undefined, null, 3, 'ernie-vilg-10b', []]) {
    await refuses(t, () => Generator.create(bad as never), 'ERR_VILG_INVALID_ARGUMENT', 'config')
  }
})

test('devices and precisions that are not there are refused, unknown options too', async (t) => {
  const create = (options: object) => () => Generator.create(tinyConfig(), options)
  await refuses(t, create({ device: 'cuda' }), 'ERR_VILG_UNSUPPORTED', 'CUDA is switched off')
  await refuses(t, create({ device: 'cuda:1' }), 'ERR_VILG_UNSUPPORTED', 'cuda:1')
  await refuses(t, create({ device: 'tpu' }), 'ERR_VILG_INVALID_ARGUMENT', 'tpu')
  await refuses(t, create({ precision: 'float16' }), 'ERR_VILG_UNSUPPORTED', 'bfloat16')
  await refuses(t, create({ precision: 'int8' }), 'ERR_VILG_INVALID_ARGUMENT', 'int8')
  await refuses(t, create({ seed: -1 }), 'ERR_VILG_INVALID_ARGUMENT', 'seed')
  await refuses(t, create({ seed: 2 ** 53 }), 'ERR_VILG_INVALID_ARGUMENT', 'seed')
  await refuses(t, create({ sed: 1 }), 'ERR_VILG_INVALID_ARGUMENT', 'sed')
  await refuses(t, create({ signal: 3 }), 'ERR_VILG_INVALID_ARGUMENT', 'AbortSignal')
  await refuses(
    t,
    () => Generator.load(fixture('generator-tiny'), { seed: 1 } as never),
    'ERR_VILG_INVALID_ARGUMENT',
  )
  await using auto = await Generator.create(tinyConfig(), { device: 'auto', precision: 'bfloat16' })
  t.is(auto.device, 'cpu')
  t.is(auto.precision, 'bfloat16')
})

test('a model that cannot fit says so before it allocates', async (t) => {
  // more layers where the machine is larger than the paper's model
  const config = preset('ernie-vilg-10b')
  const bytes = (layers: number) => 4 * layers * 12 * config.hidden ** 2
  const { available } = backendInfo().memory
  const layers = Math.max(config.layers, Math.ceil((2 * available) / bytes(1)))
  const before = process.memoryUsage().rss
  const error = await refuses(
    t,
    Generator.create({ ...config, layers }, { precision: 'float32' }),
    'ERR_VILG_OUT_OF_MEMORY',
    /need \d+ bytes, \d+ bytes are available/,
  )
  const needed = Number(/need (\d+) bytes/.exec(error.message)![1])
  t.true(needed > bytes(layers) && needed < 1.1 * bytes(layers), `${needed}`)
  t.true(process.memoryUsage().rss - before < 200e6)
})

test('presets', async (t) => {
  const paper = preset('ernie-vilg-10b')
  t.deepEqual([paper.layers, paper.hidden, paper.heads], [48, 4096, 64])
  const lite = preset('ernie-vilg-300m')
  t.deepEqual([lite.layers, lite.hidden, lite.heads], [24, 1024, 16])
  const tokenizer = preset('vqgan-f8-8192')
  t.deepEqual([tokenizer.codebookSize, tokenizer.multipliers], [8192, [1, 1, 2, 4]])
  paper.layers = 1 // a copy
  t.is(preset('ernie-vilg-10b').layers, 48)
  await refuses(
    t,
    async () => preset('ernie' as never),
    'ERR_VILG_INVALID_ARGUMENT',
    'ernie-vilg-10b',
    'vqgan-f8-8192',
  )
  await using small = await Generator.create({ ...lite, layers: 1, hidden: 16, heads: 1 })
  t.is(small.config.textVocab, 21128)
})

test('batches that do not fit are refused by name', async (t) => {
  const generator = await lively(t)
  const good = randomBatch(generator.config, 2, 1)
  const forward = (changes: object) => () => generator.forward({ ...good, ...changes }, { direction })
  await refuses(t, forward({ text: good.text.slice(1) }), 'ERR_VILG_SHAPE_MISMATCH', 'text', 'B x 7')
  await refuses(t, forward({ text: new Int32Array() }), 'ERR_VILG_SHAPE_MISMATCH', 'text')
  await refuses(
    t,
    forward({ textValid: good.textValid.slice(1) }),
    'ERR_VILG_SHAPE_MISMATCH',
    'textValid',
    '14',
  )
  await refuses(t, forward({ image: good.image.slice(0, 9) }), 'ERR_VILG_SHAPE_MISMATCH', 'image', '18')
  await refuses(
    t,
    forward({ text: good.text.with(3, 19) }),
    'ERR_VILG_INVALID_ARGUMENT',
    'text[3]',
    '0 to 18',
    '19',
  )
  await refuses(
    t,
    forward({ image: good.image.with(17, -1) }),
    'ERR_VILG_INVALID_ARGUMENT',
    'image[17]',
    '-1',
  )
  await refuses(
    t,
    forward({ textValid: good.textValid.with(7, 0) }),
    'ERR_VILG_INVALID_ARGUMENT',
    'textValid[7]',
    'CLS',
  )
  await refuses(
    t,
    forward({ textValid: good.textValid.with(1, 2) }),
    'ERR_VILG_INVALID_ARGUMENT',
    'textValid[1]',
  )
  await refuses(t, forward({ text: [...good.text] }), 'ERR_VILG_INVALID_ARGUMENT', 'Int32Array')
  await refuses(t, forward({ text: new Float32Array(14) }), 'ERR_VILG_INVALID_ARGUMENT', 'Int32Array')
  await refuses(t, forward({ textValid: undefined }), 'ERR_VILG_INVALID_ARGUMENT', 'textValid')
  const shared = new Int32Array(new SharedArrayBuffer(56))
  await refuses(t, forward({ text: shared }), 'ERR_VILG_INVALID_ARGUMENT', 'SharedArrayBuffer')
  const detached = good.text.slice()
  structuredClone(detached.buffer, { transfer: [detached.buffer] })
  await refuses(t, forward({ text: detached }), 'ERR_VILG_INVALID_ARGUMENT', 'detached')
  for (const bad of [undefined, null, 3, []]) {
    await refuses(t, () => generator.forward(bad as never, { direction }), 'ERR_VILG_INVALID_ARGUMENT')
  }
  const run = (options: unknown) => () => generator.forward(good, options as never)
  await refuses(t, run({ direction: 'sideways' }), 'ERR_VILG_INVALID_ARGUMENT', 'text-to-image', 'sideways')
  await refuses(t, run(undefined), 'ERR_VILG_INVALID_ARGUMENT', 'direction')
  await refuses(t, run({ direction, batch: 1 }), 'ERR_VILG_INVALID_ARGUMENT', 'batch')
  await refuses(t, run({ direction, signal: {} }), 'ERR_VILG_INVALID_ARGUMENT', 'AbortSignal')
  t.true((await generator.forward(good, { direction })).loss > 0, 'and it still works')
})

test('bad arguments are TypeErrors and RangeErrors, all of them VilgErrors', async (t) => {
  const generator = await lively(t)
  const good = randomBatch(generator.config, 1, 1)
  const wrong = { ...good, text: [] as unknown as Int32Array }
  const type = await t.throwsAsync(generator.forward(wrong, { direction }), { instanceOf: TypeError })
  const outside = { ...good, text: good.text.with(0, 99) }
  const range = await t.throwsAsync(generator.forward(outside, { direction }), { instanceOf: RangeError })
  t.true((type as unknown) instanceof VilgError && (range as unknown) instanceof VilgError)
})

test('arrays with an offset into their buffer work, and may be changed after the call', async (t) => {
  const generator = await lively(t)
  const batch = randomBatch(generator.config, 2, 1)
  const expected = await generator.forward(batch, { direction })
  const text = new Int32Array(30).fill(-7)
  const textValid = new Uint8Array(30).fill(9)
  const image = new Int32Array(30).fill(-7)
  text.set(batch.text, 5)
  textValid.set(batch.textValid, 5)
  image.set(batch.image, 5)
  const within = {
    text: text.subarray(5, 19),
    textValid: textValid.subarray(5, 19),
    image: image.subarray(5, 23),
  }
  // the second waits for the first
  const calls = [generator.forward(within, { direction }), generator.forward(within, { direction })]
  text.fill(-1)
  textValid.fill(0)
  image.fill(-1)
  for (const call of calls) t.deepEqual(await call, expected)
})

test('PAD, whatever its ids, changes nothing', async (t) => {
  const generator = await lively(t, { textLength: 9 })
  const batch = randomBatch(generator.config, 3, 4)
  const other = { ...batch, text: batch.text.map((id, i) => (batch.textValid[i] ? id : (id + 5) % 19)) }
  t.notDeepEqual(other.text, batch.text)
  const [one, two] = await Promise.all([batch, other].map((each) => generator.forward(each, { direction })))
  t.deepEqual(two, one)
  const gradients = await generator.gradients(batch, { direction: 'image-to-text' })
  const same = await generator.gradients(other, { direction: 'image-to-text' })
  t.is(same.loss, gradients.loss)
})

test('gradients: of float32 models only, by the names of the checkpoint', async (t) => {
  const generator = await lively(t)
  const batch = randomBatch(generator.config, 1, 1)
  const { gradients, loss } = await generator.gradients(batch, { direction })
  t.is(loss, (await generator.forward(batch, { direction })).loss)
  t.is(gradients.size, 7 + 12 * 5 + 6)
  t.is(gradients.get('blocks.4.mlp_in.weight')!.length, 96 * 24)
  t.true(gradients.get('text_head.weight')!.every((x) => x === 0))
  // computed anew each time
  t.deepEqual((await generator.gradients(batch, { direction })).gradients, gradients)
  const half = await lively(t, {}, { precision: 'bfloat16' })
  await refuses(t, half.gradients(batch, { direction }), 'ERR_VILG_UNSUPPORTED', 'float32')
})

test('a signal ends a call that runs, one that waits and one that has not begun; the others go on', async (t) => {
  const generator = await lively(t, { layers: 16, hidden: 192, grid: 16 })
  const batch = randomBatch(generator.config, 6, 1)
  const reason = new Error('enough')
  const [running, waiting] = [new AbortController(), new AbortController()]
  const first = generator.forward(batch, { direction, signal: running.signal })
  const second = generator.forward(batch, { direction, signal: waiting.signal })
  const third = generator.forward(randomBatch(generator.config, 1, 2), { direction })
  waiting.abort(reason)
  t.is(await t.throwsAsync(second), reason)
  setTimeout(() => running.abort(reason), 5)
  t.is(await t.throwsAsync(first), reason)
  t.true((await third).loss > 0)
  const over = generator.forward(batch, { direction, signal: AbortSignal.abort(reason) })
  t.is(await t.throwsAsync(over), reason)
})

test('dispose ends what runs and what waits; afterwards everything is refused', async (t) => {
  const generator = await Generator.create(tinyConfig({ layers: 16, hidden: 192, grid: 16 }))
  const batch = randomBatch(generator.config, 6, 1)
  const calls = [1, 2, 3].map(() => generator.forward(batch, { direction }))
  const refused = calls.map((call) => refuses(t, call, 'ERR_VILG_DISPOSED', 'Generator'))
  const gone = generator.dispose()
  t.true(generator.disposed)
  t.is(generator.dispose(), gone)
  await Promise.all([gone, ...refused])
  await refuses(t, generator.forward(batch, { direction }), 'ERR_VILG_DISPOSED')
  await refuses(t, generator.gradients(batch, { direction }), 'ERR_VILG_DISPOSED')
  await refuses(t, generator.save('/nowhere'), 'ERR_VILG_DISPOSED')
  await generator[Symbol.asyncDispose]()
  t.is(generator.config.layers, 16, 'what it was can still be read')
})

test('calls on one generator come back in order', async (t) => {
  const generator = await lively(t)
  const order: number[] = []
  const batch = randomBatch(generator.config, 1, 1)
  await Promise.all(
    [0, 1, 2, 3].map(async (i) => {
      if (i === 1) await t.throwsAsync(generator.forward({} as never, { direction }))
      else await generator.forward(batch, { direction })
      order.push(i)
    }),
  )
  t.deepEqual(
    order.filter((i) => i !== 1),
    [0, 2, 3],
  )
})

test('loading reports progress, and can be stopped', async (t) => {
  const events: LoadProgressEvent[] = []
  const onProgress = (event: LoadProgressEvent) => void events.push(event)
  await using generator = await Generator.load(fixture('generator-tiny'), { onProgress })
  t.true(generator.parameterCount > 0)
  t.true(
    events.length > 0 &&
      events.every(({ phase, fraction }) => phase === 'load' && fraction > 0 && fraction <= 1),
  )
  events.reduce((before, { fraction }) => (t.true(fraction >= before), fraction), 0)
  const reason = new Error('enough')
  const stopped = Generator.load(fixture('generator-tiny'), { signal: AbortSignal.abort(reason) })
  t.is(await t.throwsAsync(stopped), reason)
  const thrown = new Error('from the callback')
  const failing = ImageTokenizer.load(fixture('taming-vqgan-tiny'), {
    onProgress: () => {
      throw thrown
    },
  })
  t.is(await t.throwsAsync(failing), thrown)
})

test('worker threads have generators of their own', async (t) => {
  const folder = fixture('generator-tiny')
  const batch = {
    text: Int32Array.of(1, 2, 3, 4, 5, 6),
    textValid: new Uint8Array(6).fill(1),
    image: new Int32Array(16),
  }
  // tsx does not load modules in workers, but it does what require() asks for
  const tsx = createRequire(import.meta.url).resolve('tsx/cjs/api')
  const code = `
    const index = ${JSON.stringify(fileURLToPath(new URL('../../lib/index.ts', import.meta.url)))}
    const { Generator } = require(${JSON.stringify(tsx)}).require(index, index)
    const { parentPort, workerData } = require('node:worker_threads')
    Generator.load(workerData.folder)
      .then((generator) => (globalThis.kept = generator).forward(workerData.batch, { direction: 'text-to-image' }))
      .then(({ loss }) => parentPort.postMessage(loss)) // and goes without dispose()
  `
  const run = () =>
    new Promise((resolve, reject) => {
      const worker = new Worker(code, { eval: true, workerData: { folder, batch } })
      worker.once('message', resolve)
      worker.once('error', reject)
    })
  const losses = await Promise.all([run(), run(), run()])
  t.is(new Set(losses).size, 1)
  await using here = await Generator.load(folder)
  t.is((await here.forward(batch, { direction })).loss, losses[0] as number)
})
