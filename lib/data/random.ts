import { expectInteger } from '../validate.ts'

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): multipliers and key increments.
const multiplier0 = 0xd2511f53
const multiplier1 = 0xcd9e8d57
const increment0 = 0x9e3779b9
const increment1 = 0xbb67ae85
const rounds = 10

/** The upper 32 bits of the 64-bit product of two unsigned 32-bit integers, in 16-bit halves: doubles hold 53 bits only. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  const carried = aLow * bHigh + (middle % 0x10000)
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carried / 0x10000)) >>> 0
}

/**
 * One block of Philox4x32-10.
 *
 * @param counter four unsigned 32-bit integers
 * @param key two unsigned 32-bit integers
 * @returns four unsigned 32-bit integers
 */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < rounds; round++) {
    const high0 = multiplyHigh(multiplier0, c0)
    const low0 = Math.imul(multiplier0, c0) >>> 0
    const high1 = multiplyHigh(multiplier1, c2)
    const low1 = Math.imul(multiplier1, c2) >>> 0
    c0 = (high1 ^ c1 ^ k0) >>> 0
    c1 = low1
    c2 = (high0 ^ c3 ^ k1) >>> 0
    c3 = low0
    k0 = (k0 + increment0) >>> 0
    k1 = (k1 + increment1) >>> 0
  }
  return [c0, c1, c2, c3]
}

/**
 * Random numbers addressed by (seed, stream, position) instead of drawn from a hidden state: the number at a position is the
 * same however many were read before it, so that a resumed run goes on as if it had never stopped.
 */
export class CounterRandom {
  readonly #key: [number, number]
  readonly #stream: [number, number]
  #next = 0

  /**
   * @param seed an integer from 0 to 2^53 - 1
   * @param stream an integer from 0 to 2^53 - 1; streams of one seed are independent of each other
   */
  constructor(seed: number, stream = 0) {
    this.#key = split(expectInteger('seed', seed, { min: 0 }))
    this.#stream = split(expectInteger('stream', stream, { min: 0 }))
  }

  /** The unsigned 32-bit integer at `position` (0 or above). */
  at(position: number): number {
    const [low, high] = split(expectInteger('position', position, { min: 0 }))
    return philox([low, high, ...this.#stream], this.#key)[0]
  }

  /** The next unsigned 32-bit integer, from position 0 on. */
  next(): number {
    return this.at(this.#next++)
  }

  /** An integer from 0 to `bound` - 1, each equally likely; `bound` from 1 to 2^32. */
  below(bound: number): number {
    expectInteger('bound', bound, { min: 1, max: 2 ** 32 })
    // The top of the range that is no whole multiple of the bound would make the small results likelier: draw again.
    const limit = 2 ** 32 - (2 ** 32 % bound)
    let value = this.next()
    while (value >= limit) value = this.next()
    return value % bound
  }

  /** A copy of `values` in random order (Fisher-Yates). */
  shuffled<T>(values: readonly T[]): T[] {
    const result = [...values]
    for (let last = result.length - 1; last > 0; last--) {
      const other = this.below(last + 1)
      const kept = result[last]!
      result[last] = result[other]!
      result[other] = kept
    }
    return result
  }
}

/** The low and the high 32 bits of a safe integer. */
function split(value: number): [number, number] {
  return [value >>> 0, Math.floor(value / 2 ** 32)]
}

/**
 * The order in which epoch `epoch` visits `length` samples: a permutation of 0 .. length - 1 that depends on `seed` and
 * `epoch` alone.
 */
export function epochOrder(length: number, seed: number, epoch: number): Uint32Array {
  expectInteger('length', length, { min: 0, max: 2 ** 32 - 1 })
  const random = new CounterRandom(seed, expectInteger('epoch', epoch, { min: 0 }))
  const order = new Uint32Array(length)
  for (let i = 0; i < length; i++) order[i] = i
  for (let last = length - 1; last > 0; last--) {
    const other = random.below(last + 1)
    const kept = order[last]!
    order[last] = order[other]!
    order[other] = kept
  }
  return order
}
