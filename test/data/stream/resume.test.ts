import { join } from 'node:path'
import { rm } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import test, { type ExecutionContext } from 'ava'
import { openSource } from '../../../lib/data/sources/open-source.ts'
import type { SampleSource } from '../../../lib/data/sources/sample.ts'
import type { WeightedSource } from '../../../lib/data/stream/mixer.ts'
import type { StreamState } from '../../../lib/data/stream/sample-stream.ts'
import { type PairStreamOptions, streamPairs } from '../../../lib/data/stream/streams.ts'
import {
  png,
  put,
  putNumberedFolder,
  putNumberedParquet,
  putNumberedTar,
  putTar,
  range,
  tempFolder,
} from '../make-data.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
type Sources = WeightedSource<SampleSource<'images'>>[]

async function open(path: string): Promise<SampleSource<'images'>> {
  return (await openSource(path)) as SampleSource<'images'>
}

/** Two tar shards, a folder and a Parquet file, with something broken in each of them. */
async function mixedSources(t: ExecutionContext): Promise<Sources> {
  const folder = await tempFolder(t)
  const tars = join(folder, 'tars')
  await put(tars, 'readme.txt', 'no shard')
  await putNumberedTar(tars, 'a.tar', range(0, 7))
  await putNumberedTar(tars, 'b.tar', range(7, 4))
  await put(tars, 'c.tar', 'no tar file at all')
  const files = await putNumberedFolder(join(folder, 'files'), range(100, 5))
  await put(files, 'bad.png', 'no picture')
  await put(files, 'bad.txt', 'bad')
  const parquet = await putNumberedParquet(folder, 'p.parquet', range(200, 6), 4)
  return [
    { source: await open(tars), weight: 2 },
    { source: await open(files), weight: 1 },
    { source: await open(parquet), weight: 1.5 },
  ]
}

const options: PairStreamOptions = { size: 8, seed: 3, shuffle: 4 }

interface Given {
  value: number
  caption: string
  position: number
  epoch: number
  source: number
}

/** The next `count` samples, and the state after each of them. */
async function take(
  sources: Sources,
  count: number,
  more: Partial<PairStreamOptions> = {},
): Promise<{ given: Given[]; states: StreamState[]; broken: unknown }> {
  const stream = streamPairs(sources, { ...options, ...more })
  const given: Given[] = []
  const states: StreamState[] = []
  if (count === 0) return { given, states, broken: stream.broken }
  for await (const { item, ...place } of stream) {
    given.push({ value: item.pixels[0]!, caption: item.captions[0]!, ...place })
    states.push(JSON.parse(JSON.stringify(stream.state())) as StreamState)
    if (given.length === count) break
  }
  return { given, states, broken: JSON.parse(JSON.stringify(stream.broken)) as unknown }
}

test('a stream that resumes at any position gives what the uninterrupted one gives, broken samples and epochs included', async (t) => {
  const sources = await mixedSources(t)
  const count = 70
  const { given, states, broken } = await take(sources, count)
  t.true(given.every(({ value, caption }) => String(value) === caption))
  t.true(Math.max(...given.map(({ epoch }) => epoch)) >= 2, 'epochs end in between')
  t.true(states.some(({ sources: cursors }) => cursors.some(({ buffer }) => buffer.length === 3)))
  for (let position = 0; position < count; position++) {
    const rest = await take(sources, count - position - 1, { resume: states[position] })
    t.deepEqual(rest.given, given.slice(position + 1), `position ${position}`)
    if (rest.given.length > 0) t.deepEqual(rest.broken, broken)
  }
})

test('a stream goes on where its last loop ended, and serves one at a time', async (t) => {
  const sources = await mixedSources(t)
  const { given } = await take(sources, 9)
  const stream = streamPairs(sources, options)
  t.is(stream.state(), undefined)
  const values: number[] = []
  for (const count of [1, 3, 5]) {
    let left = count
    for await (const { item } of stream) {
      values.push(item.pixels[0]!)
      if (--left === 0) break
    }
  }
  t.deepEqual(
    values,
    given.map(({ value }) => value),
  )
  for await (const _ of stream) {
    await t.throwsAsync(stream[Symbol.asyncIterator]().next(), { code: 'ERR_VILG_BUSY' })
    break
  }
})

test('every epoch has each sample once, in an order of its own that the seed decides', async (t) => {
  const folder = await tempFolder(t)
  await putNumberedTar(folder, 'a.tar', range(0, 9))
  await putNumberedTar(folder, 'b.tar', range(9, 9))
  const sources = [{ source: await open(folder), weight: 1 }]
  const epochs = async (more: Partial<PairStreamOptions>) => {
    const { given } = await take(sources, 54, more)
    return [0, 1, 2].map((epoch) => given.slice(epoch * 18, epoch * 18 + 18).map(({ value }) => value))
  }
  for (const shuffle of [1, 4, 100]) {
    const orders = await epochs({ shuffle })
    for (const order of orders)
      t.deepEqual(
        [...order].sort((a, b) => a - b),
        range(0, 18),
      )
    const sorted = orders.map((order) => order.every((value, i) => i % 9 === 0 || value > order[i - 1]!))
    t.deepEqual(sorted, [shuffle === 1, shuffle === 1, shuffle === 1])
    if (shuffle === 1) continue
    t.notDeepEqual(orders[0], orders[1])
    t.notDeepEqual(await epochs({ shuffle, seed: 4 }), orders)
  }
  // a bound in bytes, here less than one picture: one sample waits at a time
  t.deepEqual(await epochs({ shuffle: 100, shuffleBytes: 1 }), await epochs({ shuffle: 1 }))
})

test('sources are drawn from by their weights', async (t) => {
  const sources = await mixedSources(t)
  const { given } = await take(sources, 900)
  const shares = [0, 1, 2].map((source) => given.filter((one) => one.source === source).length / 900)
  // three standard deviations of a share of 900 draws are at most 0.05; the folder loses a sixth of its draws to its broken picture
  const drawn = [2, 1 * (5 / 6), 1.5]
  const sum = drawn.reduce((a, b) => a + b)
  for (const [i, weight] of drawn.entries())
    t.true(Math.abs(shares[i]! - weight / sum) < 0.05, `${shares[i]}`)
})

test('the parts of a source are disjoint, and all of it together', async (t) => {
  const source = await open(await putNumberedFolder(await tempFolder(t), range(0, 40)))
  const part = async (name: 'train' | 'held-out') => {
    const { given } = await take([{ source, weight: 1 }], 80, {
      part: { name, share: 0.3, seed: 5 },
      shuffle: 1,
    })
    return new Set(given.map(({ value }) => value))
  }
  const [train, heldOut] = [await part('train'), await part('held-out')]
  t.is(train.size + heldOut.size, 40)
  t.is(new Set([...train, ...heldOut]).size, 40)
  // the mean of 40 draws with a probability of 0.3 is 12, three standard deviations are 9
  t.true(heldOut.size >= 3 && heldOut.size <= 21)
})

test('states of other data or options are refused', async (t) => {
  const sources = await mixedSources(t)
  const { states } = await take(sources, 5)
  const resume = states.at(-1)
  const incompatible = { code: 'ERR_VILG_CHECKPOINT_INCOMPATIBLE' }
  t.throws(() => streamPairs(sources.slice(1), { ...options, resume }), incompatible)
  t.throws(() => streamPairs(sources, { ...options, seed: 4, resume }), incompatible)
  t.throws(() => streamPairs(sources, { ...options, shuffle: 5, resume }), incompatible)
  t.throws(
    () => streamPairs([{ ...sources[0]!, weight: 3 }, ...sources.slice(1)], { ...options, resume }),
    incompatible,
  )
  t.throws(() => streamPairs(sources, { ...options, resume: {} as StreamState }), invalid)
  // files that went since
  t.true(resume!.sources[0]!.buffer.length > 0)
  for (const name of ['a.tar', 'b.tar']) await rm(join(sources[0]!.source.name, name))
  await t.throwsAsync(take(sources, 5, { resume }), { ...incompatible, message: /sample \d+ of shard \d/ })
})

test('bad options are named', async (t) => {
  const sources = await mixedSources(t)
  const refused = (message: RegExp, more: object, from: unknown = sources) =>
    t.throws(() => streamPairs(from as Sources, { ...options, ...more }), { ...invalid, message })
  refused(/shuffel/, { shuffel: 3 })
  refused(/for seed/, { seed: -1 })
  refused(/for shuffle/, { shuffle: 0 })
  refused(/for size/, { size: '8' })
  refused(/for onBroken/, { onBroken: 'ignore' })
  refused(/part\.share/, { part: { name: 'train', share: 2, seed: 1 } })
  refused(/at least one source/, {}, [])
  refused(/sources\[0\]\.source/, {}, [{ source: 'path', weight: 1 }])
  refused(/sources\[0\]\.weight/, {}, [{ ...sources[0], weight: 0 }])
})

test('broken samples are counted once, listed, and thrown where asked', async (t) => {
  const sources = await mixedSources(t)
  const { broken } = await take(sources, 200)
  const { count, listed } = broken as { count: number; listed: { id: string; reason: string }[] }
  t.is(count, 2)
  t.deepEqual(listed.map(({ id }) => id).sort(), ['bad.png', 'c.tar'])
  await t.throwsAsync(take(sources, 200, { onBroken: 'throw' }), {
    ...invalid,
    message: /(bad\.png|c\.tar) is broken/,
  })
})

test('a source without a sound sample is an error that says why, not an endless search', async (t) => {
  const folder = await tempFolder(t)
  for (const value of range(0, 3)) {
    await put(folder, `${value}.png`, 'no picture')
    await put(folder, `${value}.txt`, 'text')
  }
  const broken = [{ source: await open(folder), weight: 1 }]
  await t.throwsAsync(take(broken, 1), {
    ...invalid,
    message: /cannot be used \(\d\.png: Expected a sound PNG/,
  })
  const tar = await put(await tempFolder(t), 'x.tar', Buffer.alloc(2048, 1))
  await t.throwsAsync(take([{ source: await open(tar), weight: 1 }], 1), { ...invalid, message: /x\.tar/ })
  const empty = await tempFolder(t)
  await t.throwsAsync(async () => take([{ source: await open(empty), weight: 1 }], 1), {
    ...invalid,
    message: /it has none/,
  })
})

test('no more is read than the buffer holds and decoding is ahead', async (t) => {
  const image = await png(1)
  let read = 0
  const source: SampleSource<'images'> = {
    name: 'endless',
    kind: 'images',
    shards: 1,
    fingerprint: 'endless',
    broken: { count: 0, listed: [] },
    async *read(_, from) {
      for (let index = from; ; index++) {
        read++
        yield { index, id: String(index), captions: ['c'], image }
      }
    },
  }
  for (const [more, waiting] of [
    [{ shuffle: 16 }, 16],
    [{ shuffle: 1000, shuffleBytes: 10 * image.length }, 10],
  ] as const) {
    read = 0
    const { given } = await take([{ source, weight: 1 }], 30, more)
    t.is(given.length, 30)
    t.true(read <= 30 + waiting + 8, `${read}`)
  }
})

test('a picture that declares ten billion pixels is left out, as any broken one', async (t) => {
  const bomb = Buffer.from(await png(1))
  bomb.writeUInt32BE(100_000, 16)
  bomb.writeUInt32BE(100_000, 20)
  bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29)
  const path = await putTar(await tempFolder(t), 'a.tar', [
    ['bomb.png', bomb],
    ['bomb.txt', 'bomb'],
    ['good.png', await png(2)],
    ['good.txt', '2'],
  ])
  const { given, broken } = await take([{ source: await open(path), weight: 1 }], 5)
  t.deepEqual(new Set(given.map(({ value }) => value)), new Set([2]))
  t.like(broken, { count: 1, listed: [{ id: 'a.tar/bomb' }] })
  t.regex((broken as { listed: { reason: string }[] }).listed[0]!.reason, /at most 100000000 pixels/)
})
