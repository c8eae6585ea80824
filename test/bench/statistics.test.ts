import test from 'ava'

import { distribution, quantile } from '../../bench/statistics.ts'

test('quantiles lie between neighbours, whatever the order', (t) => {
  t.is(quantile([3, 1, 2], 0.5), 2)
  t.is(quantile([4, 1, 3, 2], 0.5), 2.5)
  t.is(quantile([10, 20], 0.1), 11)
  t.is(quantile([7], 0.9), 7)
  t.is(quantile([1, 2, 3], 0), 1)
  t.is(quantile([1, 2, 3], 1), 3)
  // as numbers, not as text
  t.is(quantile([9, 10, 100], 0.5), 10)
})

test('broken times are no times', (t) => {
  t.throws(() => quantile([], 0.5), { instanceOf: RangeError })
  t.throws(() => quantile([1, NaN], 0.5), { instanceOf: RangeError, message: /NaN/ })
  t.throws(() => quantile([1, Infinity], 0.5), { instanceOf: RangeError })
})

test('a distribution keeps its samples as they came', (t) => {
  const samples = [5, 1, 3, 2, 4]
  const result = distribution(samples)
  t.deepEqual(samples, [5, 1, 3, 2, 4])
  t.deepEqual(result, { samples: [5, 1, 3, 2, 4], median: 3, p10: 1.4, p90: 4.6 })
})
