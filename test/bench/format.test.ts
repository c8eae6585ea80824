import test from 'ava'

import {
  digits,
  formatLimit,
  formatPeer,
  formatRate,
  formatReached,
  formatTarget,
  formatTime,
  measurementTable,
  textTable,
} from '../../bench/format.ts'
import { makeResult } from './helpers.ts'

test('numbers have three digits', (t) => {
  t.deepEqual([0, 0.01234, 1.005, 12.34, 123.4, 1234].map(digits), [
    '0.00',
    '0.0123',
    '1.00',
    '12.3',
    '123',
    '1234',
  ])
  t.deepEqual([0.5, 1, 999, 1500].map(formatTime), ['500 us', '1.00 ms', '999 ms', '1.50 s'])
  t.is(formatRate(236e9, 'FLOP/s'), '236 GFLOP/s')
  t.is(formatRate(1.5e12, 'FLOP/s'), '1.50 TFLOP/s')
  t.is(formatRate(9.5e9, 'B/s'), '9.50 GB/s')
})

test('targets', (t) => {
  t.is(formatTarget({ kind: 'share', atLeast: 0.55 }), '>= 55 % of the limit')
  t.is(formatTarget({ kind: 'speedup', atLeast: 1 }), 'no slower')
  t.is(formatTarget({ kind: 'speedup', atLeast: 1.6 }), '>= 1.6 x as fast')
  t.is(formatTarget({ kind: 'factor', atMost: 2 }), '<= 2 x its time')
  t.is(formatTarget({ kind: 'milliseconds', atMost: 15 }), '<= 15.0 ms')
  t.deepEqual([true, false, null].map(formatReached), ['yes', 'no', '?'])
})

test('what a measurement is compared with', (t) => {
  const [limited] = makeResult(
    'a',
    { work: { flops: 1e9 }, limit: 'float32Flops', target: { kind: 'share', atLeast: 0.8 } },
    [10],
  ).measurements
  t.is(formatLimit(limited!), '50 % of 200 GFLOP/s')
  t.is(formatPeer(limited!), '')
  const peer = { name: 'other 1.2', run: async () => [1] }
  const [faster] = makeResult('a', { peer, target: { kind: 'speedup', atLeast: 1 } }, [10], [25]).measurements
  t.is(formatPeer(faster!), '2.50 x as fast as other 1.2 (25.0 ms)')
  const shared = { peer: { ...peer, workRatio: 4 }, target: { kind: 'speedup', atLeast: 1 } } as const
  const [most] = makeResult('a', shared, [10], [25]).measurements
  t.is(formatPeer(most!), '2.50 x as fast as other 1.2 (25.0 ms), 63 % of the possible 4.00 x')
  const [slower] = makeResult('a', { peer, target: { kind: 'factor', atMost: 2 } }, [30], [20]).measurements
  t.is(formatPeer(slower!), '1.50 x the time of other 1.2 (20.0 ms)')
  const [alone] = makeResult(
    'a',
    { peerMissing: 'x', target: { kind: 'speedup', atLeast: 1 } },
    [1],
  ).measurements
  t.is(formatPeer(alone!), 'not there')
})

test('columns are as wide as their widest cell', (t) => {
  t.is(
    textTable([
      ['a', 'bcd'],
      ['longer', 'e'],
    ]),
    'a       bcd\n------  ---\nlonger  e',
  )
})

test('the table has a row for each measurement', (t) => {
  const results = [makeResult('a', { title: 'first' }, [5]), makeResult('b', { title: 'second' }, [20])]
  const lines = measurementTable(results).split('\n')
  t.is(lines.length, 4)
  t.regex(lines[2]!, /^first +5\.00 ms .* <= 10\.0 ms +yes$/)
  t.regex(lines[3]!, /^second +20\.0 ms .* <= 10\.0 ms +no$/)
})
