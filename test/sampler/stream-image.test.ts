import test from 'ava'
import { type ImageEvent, Sampler, type StreamImageOptions } from '../../lib/index.ts'
import { refuses } from '../model/helpers.ts'
import { allEvents, essence, tinyBundle } from './bundle.ts'

const prompt = '绿叶子'

test('an event a row, then the picture that textToImage draws first', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const events = await allEvents(sampler.streamImage(prompt, { seed: 4 }))
  t.deepEqual(
    events.map(({ type }) => type),
    ['row', 'row', 'row', 'row', 'image'],
  )
  const last = events.at(-1)!
  const image = last.type === 'image' ? last.image : undefined
  const [expected] = await sampler.textToImage(prompt, { seed: 4 })
  t.is(essence(image!), essence(expected!))
  events.slice(0, -1).forEach((event, i) => {
    if (event.type !== 'row') return t.fail()
    t.is(event.row, i + 1)
    t.is(event.rows, 4)
    t.deepEqual(event.tokens, expected!.tokens.slice(0, (i + 1) * 4))
    const { pixels, width, height } = event.preview!
    t.is(pixels.length, width * height * 3)
    const below = pixels.subarray((i + 1) * 2 * width * 3)
    t.true(
      below.every((byte) => byte === 200),
      'not drawn yet: grey',
    )
  })
  const whole = events[3]!
  t.deepEqual(whole.type === 'row' && whole.preview!.pixels, expected!.pixels)
})

test('previews come every so many rows, and with the last', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const previews = async (previewEvery: number) =>
    (await allEvents(sampler.streamImage(prompt, { previewEvery }))).flatMap((event) =>
      event.type === 'row' && event.preview !== null ? [event.row] : [],
    )
  t.deepEqual(await previews(3), [3, 4])
  t.deepEqual(await previews(2), [2, 4])
  t.deepEqual(await previews(0), [])
})

test('a loop that ends early frees the session', async (t) => {
  const model = await tinyBundle(t)
  const sampler = new Sampler(model)
  const sessions: { disposed: boolean }[] = []
  const adopt = model.generator.life.adopt.bind(model.generator.life)
  model.generator.life.adopt = (child) => {
    sessions.push(child as unknown as { disposed: boolean })
    return adopt(child)
  }
  for await (const event of sampler.streamImage(prompt)) {
    t.is(event.type, 'row')
    t.false(sessions[0]!.disposed)
    break
  }
  t.is(sessions.length, 1)
  t.true(sessions[0]!.disposed)
  // and so does one whose body throws
  await t.throwsAsync(async () => {
    for await (const _ of sampler.streamImage(prompt)) throw new Error('enough')
  })
  t.true(sessions[1]!.disposed)
  t.is((await sampler.textToImage(prompt)).length, 1)
})

test('other calls may come between two rows, and change nothing', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const alone = await allEvents(sampler.streamImage(prompt, { seed: 4 }))
  const mixed: ImageEvent[] = []
  for await (const event of sampler.streamImage(prompt, { seed: 4 })) {
    mixed.push(event)
    await sampler.textToImage('红苹果', { count: 2 })
  }
  t.deepEqual(mixed, alone)
  const streams = [1, 2, 3].map((seed) => allEvents(sampler.streamImage(prompt, { seed })))
  const together = await Promise.all(streams)
  t.deepEqual(together[1], await allEvents(sampler.streamImage(prompt, { seed: 2 })))
})

test('an abort between rows ends the stream with the reason', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const controller = new AbortController()
  const reason = new Error('enough')
  let rows = 0
  const error = await t.throwsAsync(async () => {
    for await (const _ of sampler.streamImage(prompt, { signal: controller.signal })) {
      rows++
      if (rows === 2) controller.abort(reason)
    }
  })
  t.is(error, reason)
  t.is(rows, 2)
})

test('bad options are refused by name', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const bad: [string, Record<string, unknown>][] = [
    ['previewEvery', { previewEvery: -1 }],
    ['previewEvery', { previewEvery: NaN }],
    ['"count"', { count: 2 }],
    ['seed', { seed: NaN }],
  ]
  for (const [name, options] of bad) {
    const first = sampler.streamImage(prompt, options as StreamImageOptions).next()
    await refuses(t, first, 'ERR_VILG_INVALID_ARGUMENT', name)
  }
  await refuses(t, sampler.streamImage('').next(), 'ERR_VILG_INVALID_ARGUMENT', 'prompt')
})
