import { CallQueue } from '../../model/call-queue.ts'
import { native } from '../../native/binding.ts'
import { callNative } from '../../native/call.ts'
import { expectInteger, expectTypedArray, outOfRange, rangeError, typeMismatch } from '../../validate.ts'
import { expectFinite, type Gaussian } from './gaussian.ts'

/** What is known of some vectors: their number, their mean, and the sum of the outer products of their deviations from it. */
interface Moments {
  count: number
  mean: Float64Array
  scatter: Float64Array
}

/** Numbers that wait to be worked into the moments together: 32 MB. */
const blockNumbers = 2 ** 22
const [minBlockRows, maxBlockRows] = [16, 4096]

/**
 * The mean and covariance of a stream of feature vectors, in float64, without keeping the vectors: blocks of them are centred by their own
 * mean, and blocks are joined by the formula of Chan, Golub and LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances",
 * 1979), so that nothing cancels. The same bits however the vectors are divided into calls, and for any number of threads.
 *
 * ```ts
 * const statistics = new FeatureStatistics(2048)
 * for (const features of batches) await statistics.add(features)
 * const distance = await frechetDistance(await statistics.gaussian(), reference)
 * ```
 */
export class FeatureStatistics {
  /** Numbers in a vector. */
  readonly dimensions: number
  readonly #blockRows: number
  readonly #queue = new CallQueue()
  #moments: Moments | undefined
  #pending: Float64Array
  #pendingRows = 0
  #count = 0

  /**
   * @param dimensions numbers in a vector, 1 to 16,384 (whose covariance has 2 GB)
   * @throws ERR_VILG_INVALID_ARGUMENT
   */
  constructor(dimensions: number) {
    this.dimensions = expectInteger('dimensions', dimensions, { min: 1, max: 16_384 })
    const rows = Math.floor(blockNumbers / dimensions)
    this.#blockRows = Math.min(maxBlockRows, Math.max(minBlockRows, rows))
    this.#pending = new Float64Array(this.#blockRows * dimensions)
  }

  /** Vectors counted so far, by all calls that have ended. */
  get count(): number {
    return this.#count
  }

  /**
   * Counts vectors.
   *
   * @param features any number of vectors, one after the other; copied before the call returns
   * @throws ERR_VILG_INVALID_ARGUMENT for what is not finite; ERR_VILG_SHAPE_MISMATCH for a part of a vector. Nothing is counted then.
   */
  async add(features: Float32Array | Float64Array): Promise<void> {
    if (features instanceof Float64Array) expectTypedArray('features', features, Float64Array)
    else if (features instanceof Float32Array) expectTypedArray('features', features, Float32Array)
    else throw typeMismatch('features', 'Float32Array or Float64Array', features)
    const { dimensions } = this
    if (features.length % dimensions !== 0) {
      throw outOfRange('features', `vectors of ${dimensions} numbers`, features, 'ERR_VILG_SHAPE_MISMATCH')
    }
    expectFinite('features', features)
    const copy = features.slice()
    await this.#queue.run(undefined, async () => {
      for (let first = 0; first < copy.length;) {
        const room = (this.#blockRows - this.#pendingRows) * dimensions
        const part = copy.subarray(first, first + room)
        this.#pending.set(part, this.#pendingRows * dimensions)
        this.#pendingRows += part.length / dimensions
        this.#count += part.length / dimensions
        first += part.length
        if (this.#pendingRows === this.#blockRows) {
          this.#moments = joined(this.#moments, await momentsOf(this.#pending, dimensions))
          this.#pendingRows = 0
        }
      }
    })
  }

  /**
   * Counts all vectors that another object has counted, which stays as it is: parts may be counted apart, in processes of their own too.
   *
   * @throws ERR_VILG_SHAPE_MISMATCH, ERR_VILG_INVALID_ARGUMENT
   */
  async merge(other: FeatureStatistics): Promise<void> {
    if (!(other instanceof FeatureStatistics)) throw typeMismatch('other', 'FeatureStatistics', other)
    if (other.dimensions !== this.dimensions) {
      const received = `those of ${other.dimensions}`
      throw rangeError(
        'other',
        `statistics of ${this.dimensions} dimensions`,
        received,
        'ERR_VILG_SHAPE_MISMATCH',
      )
    }
    const theirs = await other.#total()
    if (theirs === undefined) return
    await this.#queue.run(undefined, async () => {
      this.#moments = joined(this.#moments, theirs)
      this.#count += theirs.count
    })
  }

  /**
   * The mean and the sample covariance (numpy's `cov`: the sum of outer products divided by the count less one).
   *
   * @throws ERR_VILG_INVALID_ARGUMENT for fewer than 2 vectors
   */
  async gaussian(): Promise<Gaussian> {
    const total = await this.#total()
    if (total === undefined || total.count < 2) {
      throw rangeError('the statistics', 'at least 2 vectors', String(total?.count ?? 0))
    }
    const { count, mean, scatter } = total
    return { mean: mean.slice(), covariance: scatter.map((value) => value / (count - 1)) }
  }

  /** Everything counted so far; undefined where that is nothing. */
  #total(): Promise<Moments | undefined> {
    return this.#queue.run(undefined, async () => {
      if (this.#pendingRows === 0) return this.#moments
      const rows = this.#pending.subarray(0, this.#pendingRows * this.dimensions)
      return joined(this.#moments, await momentsOf(rows, this.dimensions))
    })
  }
}

async function momentsOf(features: Float64Array, dimensions: number): Promise<Moments> {
  const moments = await callNative({}, (control) => native().featureMoments(features, dimensions, control))
  return { count: features.length / dimensions, ...moments }
}

/** The moments of two sets together; neither is changed. */
function joined(a: Moments | undefined, b: Moments): Moments {
  if (a === undefined) return b
  const count = a.count + b.count
  const d = a.mean.length
  const difference = b.mean.map((value, i) => value - a.mean[i]!)
  const mean = a.mean.map((value, i) => value + difference[i]! * (b.count / count))
  const weight = (a.count / count) * b.count
  const scatter = new Float64Array(d * d)
  for (let i = 0; i < d; i++) {
    const factor = difference[i]! * weight
    for (let j = 0; j <= i; j++) {
      const at = i * d + j
      scatter[at] = a.scatter[at]! + b.scatter[at]! + factor * difference[j]!
      scatter[j * d + i] = scatter[at]
    }
  }
  return { count, mean, scatter }
}
