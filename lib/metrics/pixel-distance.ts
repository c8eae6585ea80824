import type { RgbImage } from '../data/image.ts'
import { outOfRange } from '../validate.ts'

/** The picture of the gallery with the least squared error. */
export function nearestOf<Pair extends RgbImage>(
  image: RgbImage,
  gallery: readonly Pair[],
): { pair: Pair; error: number } {
  let pair = gallery[0]!
  let error = Infinity
  for (const other of gallery) {
    const found = squaredError(image, other, error)
    if (found < error) [pair, error] = [other, found]
  }
  return { pair, error }
}

/** The sum of squared differences of all bytes; something above `limit` as soon as it is above that. */
export function squaredError(a: RgbImage, b: RgbImage, limit = Infinity): number {
  if (a.width !== b.width || a.height !== b.height) {
    const sizes = `${b.width} x ${b.height}`
    throw outOfRange(
      'the pictures',
      `pictures of ${a.width} x ${a.height} pixels`,
      sizes,
      'ERR_VILG_SHAPE_MISMATCH',
    )
  }
  const { pixels: p } = a
  const { pixels: q } = b
  const block = 192 // a row of 64 pixels between two looks at the limit
  let sum = 0
  for (let first = 0; first < p.length; first += block) {
    const last = Math.min(first + block, p.length)
    for (let i = first; i < last; i++) {
      const difference = p[i]! - q[i]!
      sum += difference * difference
    }
    if (sum > limit) return sum
  }
  return sum
}
