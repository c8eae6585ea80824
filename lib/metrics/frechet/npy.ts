/** An array of a `.npy` file, in C order. */
export interface NpyArray {
  shape: number[]
  data: Float64Array
}

const magic = '\x93NUMPY'

/** Writes a `.npy` file of version 1: float64, little-endian, C order. */
export function writeNpy({ shape, data }: NpyArray): Uint8Array {
  const sides = shape.length === 1 ? `${shape[0]},` : shape.join(', ')
  const text = `{'descr': '<f8', 'fortran_order': False, 'shape': (${sides}), }`
  // the numbers begin at a multiple of 64 bytes, and the header ends with a line feed
  const total = Math.ceil((10 + text.length + 1) / 64) * 64
  const header = `${text.padEnd(total - 11)}\n`
  const bytes = new Uint8Array(total + data.length * 8)
  const view = new DataView(bytes.buffer)
  bytes.set(Buffer.from(`${magic}\x01\x00`, 'latin1'))
  view.setUint16(8, header.length, true)
  bytes.set(Buffer.from(header, 'latin1'), 10)
  for (let i = 0; i < data.length; i++) view.setFloat64(total + i * 8, data[i]!, true)
  return bytes
}
