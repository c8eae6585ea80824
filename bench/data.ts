/** Repeatable numbers for inputs: a generator of 32 bits (mulberry32), which passes what inputs of benchmarks need. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let x = this.#state
    x = Math.imul(x ^ (x >>> 15), x | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }

  /** 0 to `end` - 1. */
  integer(end: number): number {
    return Math.floor(this.next() * end)
  }

  /** Numbers in [-1, 1). */
  floats(count: number): Float32Array {
    const values = new Float32Array(count)
    for (let i = 0; i < count; i++) values[i] = 2 * this.next() - 1
    return values
  }

  /** Integers from 0 to `end` - 1. */
  integers(count: number, end: number): Int32Array {
    return Int32Array.from({ length: count }, () => this.integer(end))
  }
}

const bits = new Uint32Array(1)
const float = new Float32Array(bits.buffer)

/** The nearest bfloat16, ties to even. */
export function roundToBfloat16(value: number): number {
  float[0] = value
  bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000
  return float[0]!
}

/** Throws, naming what was compared, unless `error` is a number of at most `bound`. */
export function expectError(what: string, error: number, bound: number): void {
  if (!(error <= bound)) throw new Error(`Expected ${what} within ${bound}, found ${error}`)
}

/** The root of the mean squared difference over the root of the mean square of `expected`. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) {
    throw new Error(`Expected ${expected.length} numbers, received ${actual.length}`)
  }
  let difference = 0
  let size = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    size += expected[i]! ** 2
  }
  return Math.sqrt(difference / size)
}

/** The milliseconds that something takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  await work()
  return performance.now() - begin
}
