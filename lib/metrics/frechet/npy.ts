import { VilgError } from '../../errors.ts'

/** An array of a `.npy` file, in C order. */
export interface NpyArray {
  shape: number[]
  data: Float64Array
}

const magic = '\x93NUMPY'
const maxHeaderBytes = 65536

/**
 * Reads a `.npy` file (NumPy's format, versions 1 to 3) of float32 or float64 numbers in either byte order; arrays in Fortran order are turned
 * into C order.
 *
 * @param label what the file is called in errors
 * @throws ERR_VILG_CHECKPOINT_FORMAT
 */
export function readNpy(bytes: Uint8Array, label: string): NpyArray {
  const refuse = (found: string): VilgError =>
    new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `Expected a .npy array of float32 or float64 numbers in ${label}, and ${found}`,
      { file: label },
    )
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 12 || latin1(bytes.subarray(0, 6)) !== magic) throw refuse('it does not begin like one')
  const version = bytes[6]!
  if (version < 1 || version > 3) throw refuse(`it is of version ${version}`)
  const lengthBytes = version === 1 ? 2 : 4
  const headerBytes = version === 1 ? view.getUint16(8, true) : view.getUint32(8, true)
  const start = 8 + lengthBytes + headerBytes
  if (headerBytes > maxHeaderBytes || start > bytes.length) throw refuse('its header is cut off')
  const header = latin1(bytes.subarray(8 + lengthBytes, start))
  const parsed = parseHeader(header)
  if (typeof parsed === 'string') throw refuse(parsed)
  const { shape, itemBytes, littleEndian, fortranOrder } = parsed
  const count = shape.reduce((product, side) => product * side, 1)
  if (count * itemBytes !== bytes.length - start) {
    throw refuse(
      `its shape (${shape.join(', ')}) asks for ${count * itemBytes} bytes where there are ${bytes.length - start}`,
    )
  }
  const data = new Float64Array(count)
  for (let i = 0; i < count; i++) {
    const at = start + i * itemBytes
    data[i] = itemBytes === 4 ? view.getFloat32(at, littleEndian) : view.getFloat64(at, littleEndian)
  }
  return { shape, data: fortranOrder ? toRowMajor(data, shape) : data }
}

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

interface Header {
  shape: number[]
  itemBytes: 4 | 8
  littleEndian: boolean
  fortranOrder: boolean
}

/** The three entries of the header's Python dictionary, or what is wrong with it. */
function parseHeader(header: string): Header | string {
  // in any order, each once; numbers of Python 2 may end in L
  const dictionary =
    /^\{((?:\s*'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^']*'|True|False|\([\d\sL,]*\))\s*,?){3})\s*\}\s*$/
  const body = dictionary.exec(header)?.[1]
  const descr = body && /'descr'\s*:\s*'([^']*)'/.exec(body)?.[1]
  const order = body && /'fortran_order'\s*:\s*(True|False)/.exec(body)?.[1]
  const sides = body && /'shape'\s*:\s*\(([^)]*)\)/.exec(body)?.[1]
  if (descr === undefined || order === undefined || sides === undefined) return 'its header cannot be read'
  const type = /^([<>])f([48])$/.exec(descr)
  if (!type) return `its numbers are of the type ${JSON.stringify(descr)}`
  const shape = sides
    .split(',')
    .map((side) => side.trim().replace(/L$/, ''))
    .filter((side) => side !== '')
    .map(Number)
  if (!shape.every((side) => Number.isSafeInteger(side))) return `its shape is (${sides})`
  return {
    shape,
    itemBytes: type[2] === '4' ? 4 : 8,
    littleEndian: type[1] === '<',
    fortranOrder: order === 'True',
  }
}

/** From Fortran order, where the first index runs fastest, to C order, where the last does. */
function toRowMajor(data: Float64Array, shape: readonly number[]): Float64Array {
  const result = new Float64Array(data.length)
  const index = shape.map(() => 0)
  for (const value of data) {
    let at = 0
    for (let axis = 0; axis < shape.length; axis++) at = at * shape[axis]! + index[axis]!
    result[at] = value
    for (let axis = 0; axis < shape.length && ++index[axis]! === shape[axis]; axis++) index[axis] = 0
  }
  return result
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}
