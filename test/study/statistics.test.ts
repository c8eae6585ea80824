import test from 'ava'
import { AGREEMENT_LEVELS, krippendorffAlpha, PROMPT_ANGLES, PROTOCOLS } from '../../lib/study/index.ts'
import { mean, meanEstimate, median, shareEstimate, studentQuantile } from '../../lib/study/statistics.ts'

const none = NaN
/** From a table of raters to the values of units. */
const unitsOf = (raters: number[][]) =>
  raters[0]!.map((_, unit) => raters.map((values) => values[unit]!).filter((value) => !Number.isNaN(value)))

// Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example C: four observers, values missing.
const fourObservers = unitsOf([
  [1, 2, 3, 3, 2, 1, 4, 1, 2, none, none, none],
  [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, none, 3],
  [none, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, none],
  [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, none],
])

test("alpha is that of Krippendorff's worked examples, to the digits that are printed", (t) => {
  const printed = { nominal: 0.743, ordinal: 0.815, interval: 0.849 }
  for (const level of AGREEMENT_LEVELS) {
    t.true(Math.abs(krippendorffAlpha(fourObservers, level)! - printed[level]) < 0.0005, level)
  }
  // Example A there: two observers, binary.
  const binary = unitsOf([
    [0, 1, 0, 0, 0, 0, 0, 0, 1, 0],
    [1, 1, 1, 0, 0, 1, 0, 0, 0, 0],
  ])
  t.true(Math.abs(krippendorffAlpha(binary, 'nominal')! - 0.095) < 0.0005)
  // The example of the encyclopedia article on the coefficient: three coders, most values missing.
  const threeCoders = unitsOf([
    [none, none, none, none, none, 3, 4, 1, 2, 1, 1, 3, 3, none, 3],
    [1, none, 2, 1, 3, 3, 4, 3, none, none, none, none, none, none, none],
    [none, none, 2, 1, 3, 4, 4, none, 2, 1, 1, 3, 3, none, 4],
  ])
  t.true(Math.abs(krippendorffAlpha(threeCoders, 'nominal')! - 0.691) < 0.0005)
  t.true(Math.abs(krippendorffAlpha(threeCoders, 'interval')! - 0.811) < 0.0005)
})

test('alpha: 1 for agreement, below 0 for its opposite, null where there is nothing to say', (t) => {
  for (const level of AGREEMENT_LEVELS) {
    t.is(krippendorffAlpha([[1, 1], [2, 2, 2], [5]], level), 1)
    t.true(krippendorffAlpha([[1, 5], [5, 1], [1, 5]], level)! < 0) // prettier-ignore
    t.is(krippendorffAlpha([], level), null)
    t.is(krippendorffAlpha([[1], [2], []], level), null)
    t.is(krippendorffAlpha([[3, 3], [3, 3, 3]], level), null) // prettier-ignore
    const turned = fourObservers.map((values) => [...values].reverse()).reverse()
    t.true(Math.abs(krippendorffAlpha(turned, level)! - krippendorffAlpha(fourObservers, level)!) < 1e-12)
  }
  // Names and ranks stay what they are under any rising map; distances do not.
  const spread = fourObservers.map((values) => values.map((value) => 10 ** value))
  t.is(krippendorffAlpha(spread, 'nominal'), krippendorffAlpha(fourObservers, 'nominal'))
  t.is(krippendorffAlpha(spread, 'ordinal'), krippendorffAlpha(fourObservers, 'ordinal'))
  t.not(krippendorffAlpha(spread, 'interval'), krippendorffAlpha(fourObservers, 'interval'))
  t.throws(() => krippendorffAlpha([[1, NaN]], 'nominal'), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  t.throws(() => krippendorffAlpha([[1, 2]], 'ratio' as 'nominal'), { code: 'ERR_VILG_INVALID_ARGUMENT' })
})

test("Student's quantile is that of scipy.stats.t.ppf(0.975, n)", (t) => {
  const expected: [number, number][] = [
    [1, 12.706204736174694],
    [2, 4.302652729749462],
    [3, 3.1824463052837078],
    [4, 2.7764451051977934],
    [5, 2.5705818356363146],
    [10, 2.2281388519862735],
    [29, 2.045229642132703],
    [30, 2.0422724563012378],
    [499, 1.9647293909876886],
  ]
  // 60 halvings of an interval of 13 leave 1e-17; what remains is the rounding of the series.
  for (const [freedom, quantile] of expected)
    t.true(Math.abs(studentQuantile(freedom) / quantile - 1) < 1e-12)
})

test('a mean with its interval, by hand', (t) => {
  // 1, 2, 3, 4: mean 2.5, s = sqrt(5/3), t(3) = 3.1824463052837078
  const half = (3.1824463052837078 * Math.sqrt(5 / 3)) / 2
  const { value, interval } = meanEstimate([4, 1, 3, 2])!
  t.is(value, 2.5)
  t.true(Math.abs(interval!.low - (2.5 - half)) < 1e-12)
  t.true(Math.abs(interval!.high - (2.5 + half)) < 1e-12)
  t.deepEqual(meanEstimate([7]), { value: 7, interval: null })
  t.is(meanEstimate([]), null)
  t.deepEqual(meanEstimate([2, 2, 2]), { value: 2, interval: { low: 2, high: 2 } })
  t.is(mean([1, 2]), 1.5)
  t.deepEqual([median([3, 1, 2]), median([4, 1, 2, 3]), median([])], [2, 2.5, null])
})

test("a share with Wilson's interval is that of scipy's binomtest(...).proportion_ci(method='wilson')", (t) => {
  const expected: [number, number, number, number][] = [
    [8, 10, 0.4901624715366418, 0.9433178485456248],
    [157, 200, 0.7229769265100339, 0.8362812374549242],
    [0, 10, 0, 0.27753279986288926],
    [10, 10, 1 - 0.27753279986288926, 1],
  ]
  for (const [successes, trials, low, high] of expected) {
    const { value, interval } = shareEstimate(successes, trials)!
    t.is(value, successes / trials)
    t.true(Math.abs(interval!.low - low) < 1e-12 && Math.abs(interval!.high - high) < 1e-12)
  }
  t.is(shareEstimate(0, 0), null)
})

test('the protocols are those of the papers, and nobody can change them', (t) => {
  const scales = Object.fromEntries(
    Object.entries(PROTOCOLS).map(([name, { criteria }]) => [
      name,
      criteria.map((one) =>
        one.kind === 'rating' ? `${one.id} ${one.min}-${one.max}` : `${one.id} ${one.kind}`,
      ),
    ]),
  )
  t.deepEqual(scales, {
    'text-to-image': ['clarity 1-5', 'texture 1-5', 'relevance 1-5'],
    caption: ['fluency 0-2', 'relevance 0-2', 'richness 0-2'],
    vqa: ['turing verdict', 'quality 0-2'],
    pairwise: ['fidelity choice', 'semantics choice'],
  })
  t.deepEqual(
    PROMPT_ANGLES.map(({ count }) => count),
    [102, 49, 50, 68, 56, 54, 43, 43, 35],
  )
  t.is(
    PROMPT_ANGLES.reduce((sum, { count }) => sum + count, 0),
    500,
  )
  for (const value of [
    PROTOCOLS,
    PROTOCOLS.vqa,
    PROTOCOLS.vqa.criteria,
    PROTOCOLS.vqa.criteria[0].label,
    PROMPT_ANGLES[0].label,
  ])
    t.true(Object.isFrozen(value))
})
