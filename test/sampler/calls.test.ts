import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { ErnieVilg, type GeneratedImage, Sampler } from '../../lib/index.ts'
import { refuses, temporaryFolder } from '../model/helpers.ts'
import { essence, picture, tinyBundle } from './bundle.ts'

const prompt = '小狗'
/** So slow that an abort comes long before the end: 144 tokens of 24 layers for 8 candidates. */
const slow = { grid: 12, layers: 24, hidden: 96 }

/** A generator of another grid than the image tokenizer's: enough where nothing is decoded to pixels. */
async function slowModel(t: Parameters<typeof tinyBundle>[0]): Promise<Sampler> {
  const { textTokenizer } = await tinyBundle(t)
  const { ImageTokenizer } = await import('../../lib/index.ts')
  const { lively } = await import('../model/helpers.ts')
  const generator = await lively(t, { ...slow, textVocab: textTokenizer.vocabSize, textLength: 10 })
  const imageTokenizer = await ImageTokenizer.create({
    quantizer: 'nearest',
    resolution: slow.grid * 2,
    channels: 32,
    multipliers: [1, 1],
    residualBlocks: 1,
    attentionResolutions: [],
    latentChannels: 8,
    codebookSize: generator.config.imageVocab,
    codebookDim: 4,
  })
  const model = ErnieVilg.create({ generator, imageTokenizer, textTokenizer })
  t.teardown(() => model.dispose())
  return new Sampler(model)
}

test('an abort rejects with its reason, and no further row is drawn', async (t) => {
  const sampler = await slowModel(t)
  const controller = new AbortController()
  const reason = { because: 'I say so' }
  const rows: number[] = []
  const call = sampler.textToImage(prompt, {
    count: 8,
    signal: controller.signal,
    onProgress: ({ fraction }) => {
      rows.push(fraction)
      if (rows.length === 2) controller.abort(reason)
    },
  })
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  t.is(error, reason)
  t.deepEqual(rows, [1 / 12, 2 / 12])
})

test('an abort stops in the middle of a step, not at its end', async (t) => {
  const sampler = await slowModel(t)
  const { generator, textTokenizer } = sampler.model
  const { openImageSession } = await import('../../lib/model/sessions.ts')
  const { native } = await import('../../lib/native/binding.ts')
  const { ids, valid } = textTokenizer.encode(prompt, { length: 10 })
  const draw = { seed: 1, temperature: 1, topK: 0, topP: 1 }
  const session = openImageSession(generator, ids, valid, 8, 0, draw)
  t.teardown(() => session.dispose())
  await session.step(1)
  const stop = new (native().StopFlag)()
  const all = session.step(143, { stop })
  setImmediate(() => stop.raise())
  await t.throwsAsync(all, { any: true })
  const { position, tokens } = await session.step(1)
  t.true(position < 144, `${position} tokens were drawn before the step stopped`)
  t.is(tokens[position], -1, 'nothing beyond')
})

test('a signal that is aborted already starts nothing', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const signal = AbortSignal.abort(new Error('before'))
  const expected = { message: 'before' }
  const onProgress = () => t.fail('nothing has begun')
  await t.throwsAsync(sampler.textToImage(prompt, { signal, onProgress }), expected)
  await t.throwsAsync(sampler.imageToText(picture(1), { signal, onProgress }), expected)
  await t.throwsAsync(sampler.streamImage(prompt, { signal }).next(), expected)
})

test('a signal that never aborts keeps no listener', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const { signal } = new AbortController()
  let listeners = 0
  const add = signal.addEventListener.bind(signal)
  const remove = signal.removeEventListener.bind(signal)
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args))
  signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args))
  await sampler.textToImage(prompt, { count: 5, best: 1, signal })
  await sampler.imageToText(picture(1), { signal })
  t.is(listeners, 0)
})

test('calls at once run one after the other, in order', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const log: string[] = []
  const call = (name: string) =>
    sampler.textToImage(prompt, {
      count: 5,
      seed: 2,
      onProgress: ({ phase, fraction }) => {
        if (phase === 'decode' && fraction === 0.25) log.push(`${name} begins`)
        if (phase === 'vqgan' && fraction === 1) log.push(`${name} ends`)
      },
    })
  const [one, two, text] = await Promise.all([
    call('one'),
    call('two'),
    sampler.imageToText(picture(1), {
      onProgress: ({ phase }) => phase === 'encode' && log.push('text begins'),
    }),
  ])
  t.deepEqual(log, ['one begins', 'one ends', 'two begins', 'two ends', 'text begins'])
  t.deepEqual(two.map(essence), one.map(essence))
  t.is(text.length, 1)
})

test('a failure does not touch the calls behind it', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const [expected] = await sampler.textToImage(prompt, { seed: 2 })
  const thrower = () => {
    throw new Error('in the middle')
  }
  const calls: Promise<GeneratedImage[]>[] = [
    sampler.textToImage(prompt, { onProgress: thrower }),
    sampler.textToImage(prompt, { seed: 2 }),
    sampler.textToImage('', {}),
    sampler.textToImage(prompt, {
      count: 2,
      best: 1,
      reranker: { score: () => Promise.reject(new Error()) },
    }),
    sampler.textToImage(prompt, { seed: 2 }),
  ]
  const results = await Promise.allSettled(calls)
  t.deepEqual(
    results.map(({ status }) => status),
    ['rejected', 'fulfilled', 'rejected', 'rejected', 'fulfilled'],
  )
  for (const i of [1, 4]) t.is(essence((await calls[i]!)[0]!), essence(expected!))
})

test('a call that is aborted while it waits rejects at once, and the one before goes on', async (t) => {
  const sampler = await slowModel(t)
  const controller = new AbortController()
  let isRunning = true
  const first = sampler.textToImage(prompt, { count: 2 }).finally(() => (isRunning = false))
  const second = sampler.textToImage(prompt, { signal: controller.signal })
  setImmediate(() => controller.abort(new Error('waited')))
  await t.throwsAsync(second, { message: 'waited' })
  t.true(isRunning)
  t.is((await first).length, 2)
})

test('a model that is disposed of while it works ends the calls that run and wait', async (t) => {
  const sampler = await slowModel(t)
  let begun!: () => void
  const running = new Promise<void>((resolve) => (begun = resolve))
  const first = sampler.textToImage(prompt, { count: 8, onProgress: () => begun() })
  const second = sampler.imageToText(picture(1, 24))
  await Promise.race([running, first])
  const gone = sampler.model.dispose()
  await refuses(t, first, 'ERR_VILG_DISPOSED')
  await refuses(t, second, 'ERR_VILG_DISPOSED')
  await gone
  await refuses(t, sampler.textToImage(prompt), 'ERR_VILG_DISPOSED')
  await refuses(t, sampler.imageToText(picture(1)), 'ERR_VILG_DISPOSED')
  await refuses(t, sampler.streamImage(prompt).next(), 'ERR_VILG_DISPOSED')
})

test('a sampler wants a model', (t) => {
  for (const wrong of [undefined, null, {}, 'models/emoji', { generator: {} }]) {
    t.throws(() => new Sampler(wrong as unknown as ErnieVilg), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  }
})

test('what a model was not trained for is refused', async (t) => {
  const draws = new Sampler(await tinyBundle(t, { trainedFor: ['text-to-image'] }))
  t.is((await draws.textToImage(prompt)).length, 1)
  await refuses(t, draws.imageToText(picture(1)), 'ERR_VILG_UNSUPPORTED', 'image-to-text', 'tiny')
  await refuses(t, draws.textToImage(prompt, { count: 2, best: 1 }), 'ERR_VILG_UNSUPPORTED', 'image-to-text')
  const reranker = { score: () => [1, 2] }
  t.is((await draws.textToImage(prompt, { count: 2, best: 1, reranker })).length, 1)
  const describes = new Sampler(await tinyBundle(t, { trainedFor: ['image-to-text'] }))
  t.is((await describes.imageToText(picture(1))).length, 1)
  await refuses(t, describes.textToImage(prompt), 'ERR_VILG_UNSUPPORTED', 'text-to-image')
  await refuses(t, describes.streamImage(prompt).next(), 'ERR_VILG_UNSUPPORTED', 'text-to-image')
})

test('a saved bundle draws the same when loaded, here and in worker threads at the same time', async (t) => {
  const model = await tinyBundle(t)
  const folder = join(await temporaryFolder(t), 'bundle')
  await model.save(folder)
  const [expected] = await new Sampler(model).textToImage(prompt, { seed: 8 })
  await using loaded = await ErnieVilg.load(folder)
  const [here] = await new Sampler(loaded).textToImage(prompt, { seed: 8 })
  t.is(essence(here!), essence(expected!))
  const code = new URL('./draw-worker.mjs', import.meta.url)
  const workers = [0, 1].map(
    () =>
      new Promise<{ tokens: Int32Array; logProbability: number; pixels: Uint8Array }>((resolve, reject) => {
        const worker = new Worker(code, { workerData: { folder, prompt } })
        worker.once('message', resolve)
        worker.once('error', reject)
        worker.once('exit', (status) => reject(new Error(`the worker ended with ${status}`)))
      }),
  )
  for (const image of await Promise.all(workers)) t.is(essence(image), essence(expected!))
})
