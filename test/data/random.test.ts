import test from 'ava'
import { CounterRandom, epochOrder, philox } from '../../lib/data/random.ts'

// The known answers for philox4x32-10 in the Random123 distribution (kat_vectors).
test('philox gives the published answers', (t) => {
  t.deepEqual(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8])
  const ones = 0xffffffff
  t.deepEqual(
    philox([ones, ones, ones, ones], [ones, ones]),
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  )
  t.deepEqual(
    philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  )
})

test('a number depends on seed, stream and position, and on nothing else', (t) => {
  const random = new CounterRandom(7, 3)
  const drawn = [random.next(), random.next(), random.next()]
  t.deepEqual(
    drawn,
    [0, 1, 2].map((i) => new CounterRandom(7, 3).at(i)),
  )
  t.not(new CounterRandom(8, 3).at(0), drawn[0])
  t.not(new CounterRandom(7, 4).at(0), drawn[0])
  // The upper halves of large seeds, streams and positions count too.
  t.not(new CounterRandom(7 + 2 ** 32, 3).at(0), drawn[0])
  t.not(new CounterRandom(7, 3 + 2 ** 32).at(0), drawn[0])
  t.not(random.at(2 ** 32), drawn[0])
})

test('below() is even', (t) => {
  const random = new CounterRandom(1)
  const counts = Array.from({ length: 6 }, () => 0)
  for (let i = 0; i < 12_000; i++) counts[random.below(6)]!++
  // 2000 expected, standard deviation 41: five of them on either side.
  for (const count of counts) t.true(Math.abs(count - 2000) < 205, String(counts))
  t.is(random.below(1), 0)
})

test('an epoch visits everything once, each epoch in its own order', (t) => {
  const order = epochOrder(100, 5, 0)
  t.deepEqual(
    [...order].sort((a, b) => a - b),
    [...Array(100).keys()],
  )
  t.deepEqual(epochOrder(100, 5, 0), order)
  t.notDeepEqual(epochOrder(100, 5, 1), order)
  t.notDeepEqual(epochOrder(100, 6, 0), order)
  t.deepEqual(epochOrder(0, 5, 0), new Uint32Array(0))
})

test('bad arguments are refused', (t) => {
  const code = 'ERR_VILG_INVALID_ARGUMENT'
  t.throws(() => new CounterRandom(-1), { code })
  t.throws(() => new CounterRandom(1, 0.5), { code })
  t.throws(() => new CounterRandom(1).at(Number.NaN), { code })
  t.throws(() => new CounterRandom(1).below(0), { code })
  t.throws(() => epochOrder(10, 1, -1), { code })
})
