import { expectTypedArray, outOfRange, rangeError, typeMismatch } from '../../validate.ts'

/** The mean and covariance of feature vectors of d numbers: what the Fréchet distance compares. */
export interface Gaussian {
  /** d numbers */
  mean: Float64Array
  /** d x d numbers, symmetric, the sample covariance (divided by the count less one) */
  covariance: Float64Array
}

/** How far entries that mirror each other may lie apart, relative to the largest: float32 files round to 6e-8. */
const asymmetry = 1e-6

/**
 * Returns the statistics if they are finite, of one size, and symmetric.
 *
 * @internal
 */
export function checkGaussian(name: string, statistics: unknown): Gaussian {
  const { mean, covariance } = (statistics ?? {}) as Partial<Gaussian>
  if (mean === undefined || covariance === undefined) {
    throw typeMismatch(name, 'an object with mean and covariance', statistics)
  }
  expectTypedArray(`the mean of ${name}`, mean, Float64Array)
  const d = mean.length
  if (d === 0) throw outOfRange(`the mean of ${name}`, 'at least one number', mean)
  expectTypedArray(`the covariance of ${name}`, covariance, Float64Array, d * d)
  expectFinite(`the mean of ${name}`, mean)
  expectFinite(`the covariance of ${name}`, covariance)
  let [largest, difference] = [0, 0]
  for (let i = 0; i < d; i++) {
    for (let j = 0; j <= i; j++) {
      const [lower, upper] = [covariance[i * d + j]!, covariance[j * d + i]!]
      largest = Math.max(largest, Math.abs(lower))
      difference = Math.max(difference, Math.abs(lower - upper))
    }
  }
  if (difference > asymmetry * largest) {
    const received = `one whose mirrored entries differ by up to ${difference}`
    throw rangeError(`the covariance of ${name}`, 'a symmetric matrix', received)
  }
  return { mean, covariance }
}

/** @internal */
export function expectFinite(name: string, values: Float32Array | Float64Array): void {
  const bad = values.findIndex((value) => !Number.isFinite(value))
  if (bad >= 0) throw rangeError(name, 'finite numbers', `${values[bad]} at place ${bad}`)
}
