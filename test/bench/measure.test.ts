import test from 'ava'

import { bestCeilings, judge, sampleCount, takeSamples } from '../../bench/measure.ts'
import { ceilings, makeCase } from './helpers.ts'

test('a share is that of the ceiling in the median time', (t) => {
  const one = makeCase({
    work: { flops: 1e9, bytes: 1e9 },
    limit: 'float32Flops',
    target: { kind: 'share', atLeast: 0.5 },
  })
  // 1 GFLOP in 10 ms: 100 GFLOP/s of 200
  const result = judge(one, { own: [10, 10, 1000], peer: [] }, ceilings)
  t.deepEqual(result.limit, { of: 'float32Flops', perSecond: 200e9, share: 0.5 })
  t.is(result.reached, true)
  t.is(judge(one, { own: [10.1], peer: [] }, ceilings).reached, false)
})

test('bandwidth counts bytes, not operations', (t) => {
  const one = makeCase({
    work: { flops: 1e12, bytes: 1e9 },
    limit: 'readBytes',
    target: { kind: 'share', atLeast: 0.6 },
  })
  const result = judge(one, { own: [50], peer: [] }, ceilings)
  t.is(result.limit!.share, 0.5)
  t.is(result.reached, false)
})

test('without such a ceiling nothing is said', (t) => {
  const one = makeCase({
    work: { flops: 1 },
    limit: 'bfloat16Flops',
    target: { kind: 'share', atLeast: 0.6 },
  })
  const result = judge(one, { own: [50], peer: [] }, ceilings)
  t.is(result.limit, undefined)
  t.is(result.reached, null)
})

test('a peer is compared by medians', (t) => {
  const peer = { name: 'peer', run: async () => [1] }
  const speedup = makeCase({ peer, target: { kind: 'speedup', atLeast: 1.6 } })
  const samples = { own: [10, 20, 30], peer: [31, 32, 33] }
  t.is(judge(speedup, samples, ceilings).peer!.speedup, 1.6)
  t.is(judge(speedup, samples, ceilings).reached, true)
  t.is(judge(speedup, { own: [20.1], peer: [32] }, ceilings).reached, false)
  const factor = makeCase({ peer, target: { kind: 'factor', atMost: 2 } })
  t.is(judge(factor, { own: [20], peer: [10] }, ceilings).reached, true)
  t.is(judge(factor, { own: [20.1], peer: [10] }, ceilings).reached, false)
  const missing = makeCase({ peerMissing: 'install it', target: { kind: 'speedup', atLeast: 1 } })
  const result = judge(missing, { own: [1], peer: [] }, ceilings)
  t.is(result.reached, null)
  t.is(result.peerMissing, 'install it')
})

test('times have bounds', (t) => {
  const one = makeCase({ target: { kind: 'milliseconds', atMost: 15 } })
  t.is(judge(one, { own: [15], peer: [] }, ceilings).reached, true)
  t.is(judge(one, { own: [15.01], peer: [] }, ceilings).reached, false)
})

test('a case and its peer take turns', async (t) => {
  const calls: string[] = []
  const run = (name: string) => async (repeats: number) => {
    calls.push(`${name}${repeats}`)
    return Array<number>(repeats).fill(name === 'own' ? 1 : 2)
  }
  const one = makeCase({ samples: 10, run: run('own'), peer: { name: 'peer', run: run('peer') } })
  const { own, peer } = await takeSamples(one, false)
  t.deepEqual(own, Array<number>(10).fill(1))
  t.deepEqual(peer, Array<number>(10).fill(2))
  // once each to warm up, then five turns of two
  t.deepEqual(calls, ['own1', 'peer1', ...Array<string[]>(5).fill(['own2', 'peer2']).flat()])
})

test('runs that return one time are repeated', async (t) => {
  let runs = 0
  const { own } = await takeSamples(makeCase({ samples: 7, run: async () => [runs++] }), false)
  t.deepEqual(own, [1, 2, 3, 4, 5, 6, 7]) // the first one warmed up
  await t.throwsAsync(takeSamples(makeCase({ run: async () => [] }), false), { message: /none/ })
})

test('quick takes at most three samples', (t) => {
  t.is(sampleCount(undefined, false), 20)
  t.is(sampleCount(undefined, true), 3)
  t.is(sampleCount(2, true), 2)
  t.is(sampleCount(5, false), 5)
})

test('the better ceilings count', (t) => {
  const other = { float32Flops: 100e9, bfloat16Flops: 5, readBytes: 50e9 }
  t.deepEqual(bestCeilings(ceilings, other), { float32Flops: 200e9, bfloat16Flops: 5, readBytes: 50e9 })
})
