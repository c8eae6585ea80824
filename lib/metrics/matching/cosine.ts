import { outOfRange, rangeError, typeMismatch } from '../../validate.ts'

/** An embedding: any list of finite numbers. */
export type Embedding = ArrayLike<number>

/**
 * The cosine of the angle between two vectors, in [-1, 1].
 *
 * @param names what the vectors are called in errors
 * @throws ERR_VILG_SHAPE_MISMATCH for vectors of different lengths; ERR_VILG_INVALID_ARGUMENT for one without direction (zero, not finite, empty)
 */
export function cosine(a: Embedding, b: Embedding, names: readonly [string, string] = ['a', 'b']): number {
  const length = checkEmbedding(names[0], a)
  if (checkEmbedding(names[1], b) !== length) {
    throw outOfRange(names[1], `a vector of ${length} numbers`, b, 'ERR_VILG_SHAPE_MISMATCH')
  }
  let [product, squareA, squareB] = [0, 0, 0]
  for (let i = 0; i < length; i++) {
    product += a[i]! * b[i]!
    squareA += a[i]! * a[i]!
    squareB += b[i]! * b[i]!
  }
  checkNorm(names[0], squareA)
  checkNorm(names[1], squareB)
  return Math.min(1, Math.max(-1, product / Math.sqrt(squareA) / Math.sqrt(squareB)))
}

function checkEmbedding(name: string, vector: unknown): number {
  const isList = typeof vector === 'object' && vector !== null && 'length' in vector
  if (!isList) throw typeMismatch(name, 'a list of numbers', vector)
  return (vector as Embedding).length
}

function checkNorm(name: string, square: number): void {
  if (square > 0 && square < Infinity) return
  const expected = 'a vector of finite numbers that are not all zero'
  throw rangeError(name, expected, `one whose squares sum to ${square}`)
}
