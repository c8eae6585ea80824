import type { RgbImage } from '../../data/image.ts'

/** Side of the pictures that Inception v3 takes. */
export const inceptionSide = 299

/** How one axis is resampled: output i is (1 - weight[i]) of input low[i] and weight[i] of input high[i]. */
interface Axis {
  low: Int32Array
  high: Int32Array
  weight: Float32Array
}

/**
 * A picture as pytorch-fid gives it to Inception v3: bytes / 255, resized to 299 x 299 as `F.interpolate(mode='bilinear', align_corners=False)`
 * does (output i reads at (i + 0.5) size / 299 - 0.5 between the two nearest pixels, so shrinking leaves pixels out), then 2 x - 1.
 *
 * @param to 3 x 299 x 299 numbers in [-1, 1]
 */
export function writeInceptionInput({ pixels, width, height }: RgbImage, to: Float32Array): void {
  const columns = axis(width)
  const rows = axis(height)
  const plane = inceptionSide * inceptionSide
  for (let y = 0; y < inceptionSide; y++) {
    const [top, bottom] = [rows.low[y]! * width, rows.high[y]! * width]
    const below = rows.weight[y]!
    for (let x = 0; x < inceptionSide; x++) {
      const [left, right] = [columns.low[x]!, columns.high[x]!]
      const beside = columns.weight[x]!
      for (let channel = 0; channel < 3; channel++) {
        const at = (row: number, column: number) => pixels[(row + column) * 3 + channel]! / 255
        const above = (1 - beside) * at(top, left) + beside * at(top, right)
        const under = (1 - beside) * at(bottom, left) + beside * at(bottom, right)
        to[channel * plane + y * inceptionSide + x] = 2 * ((1 - below) * above + below * under) - 1
      }
    }
  }
}

function axis(size: number): Axis {
  const low = new Int32Array(inceptionSide)
  const high = new Int32Array(inceptionSide)
  const weight = new Float32Array(inceptionSide)
  for (let i = 0; i < inceptionSide; i++) {
    const place = Math.max(0, ((i + 0.5) * size) / inceptionSide - 0.5)
    low[i] = Math.floor(place)
    high[i] = Math.min(size - 1, low[i]! + 1)
    weight[i] = place - low[i]!
  }
  return { low, high, weight }
}
