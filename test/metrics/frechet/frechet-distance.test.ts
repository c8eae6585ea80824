import test from 'ava'
import { SafetensorsFile, setThreads, backendInfo } from '../../../lib/index.ts'
import { CounterRandom } from '../../../lib/data/random.ts'
import { FeatureStatistics, frechetDistance, type Gaussian } from '../../../lib/metrics/index.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
const mismatch = { code: 'ERR_VILG_SHAPE_MISMATCH' }

async function gaussianOf(features: Float32Array | Float64Array, dimensions: number): Promise<Gaussian> {
  const statistics = new FeatureStatistics(dimensions)
  await statistics.add(features)
  return statistics.gaussian()
}

function randomFeatures(count: number, dimensions: number, seed: number): Float32Array {
  const random = new CounterRandom(seed)
  return Float32Array.from({ length: count * dimensions }, () => random.next() / 2 ** 31 - 1)
}

/** numpy's mean and cov in two passes. */
function reference(features: Float32Array, d: number): Gaussian {
  const n = features.length / d
  const mean = new Float64Array(d)
  features.forEach((value, i) => (mean[i % d]! += value / n))
  const covariance = new Float64Array(d * d)
  for (let row = 0; row < n; row++) {
    for (let i = 0; i < d; i++) {
      for (let j = 0; j < d; j++) {
        covariance[i * d + j]! +=
          ((features[row * d + i]! - mean[i]!) * (features[row * d + j]! - mean[j]!)) / (n - 1)
      }
    }
  }
  return { mean, covariance }
}

function largestDifference(a: Float64Array, b: Float64Array): number {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0)
}

test("pytorch-fid's distance of two sets of features", async (t) => {
  await using file = await SafetensorsFile.open('test/fixtures/metrics/frechet.safetensors')
  const [a, b] = await Promise.all(
    ['a', 'b'].map(async (name) => gaussianOf(await file.readFloat32(name), 24)),
  )
  const [expected] = (await file.read('fid')) as Float64Array
  const found = await frechetDistance(a!, b!)
  // pytorch-fid's own root is of a product, which is exact to about 1e-8 of its largest
  t.true(Math.abs(found / expected! - 1) < 1e-7, `${found}, ${expected}`)
  t.true(Math.abs((await frechetDistance(b!, a!)) / found - 1) < 1e-12)
  const own = await frechetDistance(a!, a!)
  t.true(own >= 0 && own < 1e-10, String(own))
})

test('mean and covariance are those of two passes, far from zero too', async (t) => {
  for (const offset of [0, 1000]) {
    const features = randomFeatures(500, 7, 1).map((value) => value + offset)
    const expected = reference(features, 7)
    const found = await gaussianOf(features, 7)
    t.true(largestDifference(found.mean, expected.mean) < 1e-12 * (1 + offset))
    // the reference rounds its mean to 500 * 2^-53 of it, which counts squared
    t.true(largestDifference(found.covariance, expected.covariance) < 1e-13, String(offset))
  }
})

test('the same bits however vectors are divided, over blocks too, and for any number of threads', async (t) => {
  const [d, n] = [5, 9000]
  const features = randomFeatures(n, d, 2)
  const expected = await gaussianOf(features, d)
  const { threads } = backendInfo()
  for (const [part, use] of [
    [1, 1],
    [4096, 2],
    [4097, 3],
  ] as const) {
    setThreads(use)
    const statistics = new FeatureStatistics(d)
    const calls: Promise<void>[] = []
    const rows = part === 1 ? 300 : n
    for (let row = 0; row < rows; row += part) {
      calls.push(statistics.add(features.subarray(row * d, Math.min(rows, row + part) * d)))
    }
    await Promise.all(calls)
    t.is(statistics.count, rows)
    const same = part === 1 ? await gaussianOf(features.subarray(0, 300 * d), d) : expected
    t.deepEqual(await statistics.gaussian(), same)
  }
  setThreads(threads)
  const exact = reference(features, d)
  t.true(largestDifference(expected.mean, exact.mean) < 1e-13)
  t.true(largestDifference(expected.covariance, exact.covariance) < 1e-13)
})

test('parts that were counted apart are joined', async (t) => {
  const d = 6
  const features = randomFeatures(5000, d, 3).map((value, i) => value + (i % d) + (i > 20_000 ? 5 : 0))
  const [first, second, empty] = [1, 2, 3].map(() => new FeatureStatistics(d))
  await first!.add(features.subarray(0, 4500 * d))
  await second!.add(Float64Array.from(features.subarray(4500 * d)))
  await first!.merge(second!)
  await first!.merge(empty!)
  t.is(first!.count, 5000)
  t.is(second!.count, 500)
  const [found, expected] = [await first!.gaussian(), reference(features, d)]
  t.true(largestDifference(found.mean, expected.mean) < 1e-12)
  t.true(largestDifference(found.covariance, expected.covariance) < 1e-12)
  await empty!.merge(first!)
  t.deepEqual(await empty!.gaussian(), found)
  // with itself: every vector counts twice
  await second!.merge(second!)
  t.is(second!.count, 1000)
  const [doubled, once] = [await second!.gaussian(), reference(features.subarray(4500 * d), d)]
  t.true(largestDifference(doubled.mean, once.mean) < 1e-12)
  t.true(Math.abs(doubled.covariance[0]! / once.covariance[0]! - (2 * 499) / 999) < 1e-12)
})

test('vectors are copied before the call returns', async (t) => {
  const statistics = new FeatureStatistics(1)
  const features = new Float32Array([1, 3])
  const added = statistics.add(features)
  features.fill(100)
  await added
  t.deepEqual(await statistics.gaussian(), { mean: new Float64Array([2]), covariance: new Float64Array([2]) })
})

test('fewer vectors than dimensions: a distance, and no imaginary one', async (t) => {
  const d = 60
  const [a, b] = await Promise.all([
    gaussianOf(randomFeatures(10, d, 4), d),
    gaussianOf(randomFeatures(12, d, 5), d),
  ])
  const found = await frechetDistance(a, b)
  t.true(Number.isFinite(found) && found > 0)
  t.true((await frechetDistance(a, a)) < 1e-12)
})

test('bad features are refused, and nothing of them counts', async (t) => {
  const statistics = new FeatureStatistics(3)
  await t.throwsAsync(statistics.gaussian(), { ...invalid, message: /at least 2 vectors.*received 0/ })
  await statistics.add(new Float32Array(0))
  await statistics.add(new Float32Array([1, 2, 3]))
  await t.throwsAsync(statistics.gaussian(), { ...invalid, message: /at least 2 vectors.*received 1/ })
  await t.throwsAsync(statistics.add(new Float32Array(4)), { ...mismatch, message: /3 numbers/ })
  await t.throwsAsync(statistics.add(new Float32Array([1, NaN, 3])), {
    ...invalid,
    message: /NaN at place 1/,
  })
  await t.throwsAsync(statistics.add(new Float64Array([1, 2, -Infinity])), invalid)
  await t.throwsAsync(statistics.add([1, 2, 3] as never), invalid)
  await t.throwsAsync(statistics.merge(new FeatureStatistics(2)), { ...mismatch, message: /dimensions/ })
  await t.throwsAsync(statistics.merge({} as never), invalid)
  t.is(statistics.count, 1)
  for (const bad of [0, 1.5, NaN, 16_385, '3' as never]) t.throws(() => new FeatureStatistics(bad), invalid)
})

test('bad statistics are refused', async (t) => {
  const good = { mean: new Float64Array(2), covariance: new Float64Array([1, 0, 0, 1]) }
  const refused: [unknown, unknown, string, RegExp][] = [
    [
      good,
      { mean: new Float64Array(1), covariance: new Float64Array(1) },
      'ERR_VILG_SHAPE_MISMATCH',
      /2 dim/,
    ],
    [good, { ...good, covariance: new Float64Array(3) }, 'ERR_VILG_SHAPE_MISMATCH', /covariance of b/],
    [{ ...good, mean: new Float64Array([1, NaN]) }, good, 'ERR_VILG_INVALID_ARGUMENT', /mean of a/],
    [
      good,
      { ...good, covariance: new Float64Array([1, 2, 2, 1]) },
      'ERR_VILG_INVALID_ARGUMENT',
      /second covar/,
    ],
    [
      { ...good, covariance: new Float64Array([1, 0, 0, -1]) },
      good,
      'ERR_VILG_INVALID_ARGUMENT',
      /first covar/,
    ],
    [{ ...good, covariance: new Float64Array([1, 0, 1, 1]) }, good, 'ERR_VILG_INVALID_ARGUMENT', /symmetric/],
    [undefined, good, 'ERR_VILG_INVALID_ARGUMENT', /mean and covariance/],
  ]
  for (const [a, b, code, message] of refused) {
    await t.throwsAsync(frechetDistance(a as Gaussian, b as Gaussian), { code, message })
  }
  await t.throwsAsync(frechetDistance(good, good, { eps: 1 } as object), invalid)
  const signal = AbortSignal.abort(new Error('enough'))
  await t.throwsAsync(frechetDistance(good, good, { signal }), { message: 'enough' })
})
