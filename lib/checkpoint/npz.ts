import { MemoryBytes, type Region } from './byte-source.ts'
import { formatError, unsupported } from './format-error.ts'
import { readUnsigned } from './pickle/opcodes.ts'
import { type CheckpointContents, elementsOf, rowMajorStrides, type StoredTensor } from './stored-tensor.ts'
import { dtypeSize, type TensorDtype } from './tensor-dtypes.ts'
import type { ZipArchive } from './zip-archive.ts'

const suffix = '.npy'
// Compressed arrays are held in memory; those of statistics and codebooks are some megabytes
const maxInflatedBytes = 2 ** 28
const maxHeaderBytes = 2 ** 16

const dtypes: Readonly<Record<string, TensorDtype>> = {
  '<f8': 'F64',
  '<f4': 'F32',
  '<f2': 'F16',
  '<i8': 'I64',
  '<u8': 'U64',
  '<i4': 'I32',
  '<u4': 'U32',
  '<i2': 'I16',
  '<u2': 'U16',
  '|i1': 'I8',
  '|u1': 'U8',
  '|b1': 'BOOL',
}

/** Whether a zip file is one of `numpy.savez`. */
export function isNpz(archive: ZipArchive): boolean {
  return archive.names.length > 0 && archive.names.every((name) => name.endsWith(suffix))
}

/**
 * A file of `numpy.savez` or `savez_compressed`: a zip file of arrays, each in numpy's own format (NEP 1). Arrays of objects and of other
 * byte orders are refused.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED, ERR_VILG_IO
 */
export async function readNpz(archive: ZipArchive, checksums: boolean): Promise<CheckpointContents> {
  const tensors = new Map<string, StoredTensor>()
  let room = maxInflatedBytes
  for (const record of archive.names) {
    let region: Region
    if (archive.isCompressed(record)) {
      const bytes = await archive.read(record, { maxBytes: room, checksums })
      room -= bytes.length
      region = { source: new MemoryBytes(bytes), start: 0, length: bytes.length }
    } else {
      region = archive.region(record)
    }
    const name = record.slice(0, -suffix.length)
    tensors.set(name, await readArray(name, region))
  }
  return { tensors, metadata: {} }
}

async function readArray(name: string, region: Region): Promise<StoredTensor> {
  const fail = (expected: string, found: string) =>
    formatError(`Array ${name}: expected ${expected}, found ${found}`)
  const { source, start, length } = region
  if (length < 12) throw fail('a numpy array', `${length} bytes`)
  const prefix = await source.read(start, 12)
  if (Buffer.from(prefix.subarray(0, 6)).toString('latin1') !== '\x93NUMPY') {
    throw fail('a numpy array', 'another format')
  }
  const version = prefix[6]!
  if (version < 1 || version > 3)
    throw unsupported(`Array ${name}: expected version 1 to 3 of numpy's format, found ${version}`)
  const headerStart = version === 1 ? 10 : 12
  const headerBytes = readUnsigned(prefix, 8, version === 1 ? 2 : 4)
  if (headerBytes > Math.min(maxHeaderBytes, length - headerStart)) {
    throw fail('a header within its bytes', `one of ${headerBytes} bytes`)
  }
  const header = Buffer.from(await source.read(start + headerStart, headerBytes)).toString('latin1')
  const { dtype, shape, columnMajor } = parseHeader(name, header)
  const dataStart = headerStart + headerBytes
  const bytes = elementsOf(shape) * dtypeSize(dtype)
  if (bytes !== length - dataStart) throw fail(`${bytes} bytes of data`, `${length - dataStart}`)
  const strides = columnMajor ? rowMajorStrides(shape.toReversed()).reverse() : rowMajorStrides(shape)
  return { dtype, shape, strides, offset: 0, region: { source, start: start + dataStart, length: bytes } }
}

/** A Python dict as numpy writes it, and in no other form: its keys sorted, a comma after each value. */
const headerForm =
  /^\{'descr': '([^']*)', 'fortran_order': (True|False), 'shape': \(((?:\d{1,16}, ?)*(?:\d{1,16})?)\), \} *\n?$/

function parseHeader(
  name: string,
  header: string,
): { dtype: TensorDtype; shape: number[]; columnMajor: boolean } {
  const parts = headerForm.exec(header)
  if (parts === null) {
    throw unsupported(`Array ${name}: expected a header of an array of numbers, found ${header.slice(0, 80)}`)
  }
  const [, descriptor = '', order, sizes = ''] = parts
  if (!Object.hasOwn(dtypes, descriptor)) {
    throw unsupported(`Array ${name}: expected little-endian numbers, found the dtype ${descriptor}`)
  }
  const shape = sizes
    .split(',')
    .map((text) => text.trim())
    .filter((text) => text !== '')
    .map(Number)
  elementsOf(shape)
  return { dtype: dtypes[descriptor]!, shape, columnMajor: order === 'True' }
}
