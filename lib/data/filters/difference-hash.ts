import type { RgbImage } from '../image.ts'

const columns = 9
const rows = 8

/**
 * The difference hash of a picture (N. Krawetz, "Kind of Like That", 2013): the picture as 9 x 8 means of grey, a bit for each two
 * neighbours in a row, 1 where the left one is brighter. Scaling, compression and brightness change few of its 64 bits.
 *
 * @returns the upper and the lower 32 bits
 */
export function differenceHash(image: RgbImage): [number, number] {
  const grey = greyMeans(image)
  const hash: [number, number] = [0, 0]
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns - 1; x++) {
      const half = y < rows / 2 ? 0 : 1
      const isFalling = grey[y * columns + x]! > grey[y * columns + x + 1]!
      hash[half] = ((hash[half] << 1) | Number(isFalling)) >>> 0
    }
  }
  return hash
}

/** Means of the luma (ITU-R BT.601) over 9 x 8 cells of whole pixels; cells of small pictures share pixels. */
function greyMeans({ pixels, width, height }: RgbImage): Float64Array {
  const means = new Float64Array(columns * rows)
  for (let row = 0; row < rows; row++) {
    const [top, bottom] = cell(row, rows, height)
    for (let column = 0; column < columns; column++) {
      const [left, right] = cell(column, columns, width)
      let sum = 0
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) {
          const i = (y * width + x) * 3
          sum += 299 * pixels[i]! + 587 * pixels[i + 1]! + 114 * pixels[i + 2]!
        }
      }
      means[row * columns + column] = sum / ((bottom - top) * (right - left))
    }
  }
  return means
}

/** The first pixel of a cell and that behind its last. */
function cell(number: number, cells: number, size: number): [number, number] {
  const first = Math.floor((number * size) / cells)
  return [first, Math.max(first + 1, Math.ceil(((number + 1) * size) / cells))]
}

/** How many of 32 bits are set. */
function countBits(value: number): number {
  let rest = value - ((value >>> 1) & 0x55555555)
  rest = (rest & 0x33333333) + ((rest >>> 2) & 0x33333333)
  return Math.imul((rest + (rest >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

/** In how many of their 64 bits two hashes differ. */
export function hashDistance(a: readonly [number, number], b: readonly [number, number]): number {
  return countBits((a[0] ^ b[0]) >>> 0) + countBits((a[1] ^ b[1]) >>> 0)
}
