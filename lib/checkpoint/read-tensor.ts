import { crc32 } from 'node:zlib'
import { formatError, unsupported } from './format-error.ts'
import { elementsOf, isContiguous, type StoredTensor } from './stored-tensor.ts'
import { dtypeSize, isTensorDtype, type TensorDtype } from './tensor-dtypes.ts'

/** How {@link tensorPieces} reads. */
export interface PieceOptions {
  /** Bytes of a piece at most, but for elements that are larger. */
  pieceBytes: number
  /** Whether data whose checksum the file says is held against it. */
  checksums: boolean
  signal?: AbortSignal | undefined
}

/** The dtype of a tensor, which must be one that this library reads. */
export function readableDtype(name: string, { dtype }: StoredTensor): TensorDtype {
  if (isTensorDtype(dtype)) return dtype
  throw unsupported(`Tensor ${name}: expected a dtype that this library reads, found ${dtype}`, {
    tensor: name,
  })
}

/**
 * The elements of a tensor in row-major order, in pieces of whole elements, each in a buffer of its own. Views that are not contiguous are
 * put into order; memory is that of two pieces.
 *
 * @throws ERR_VILG_UNSUPPORTED for dtypes that are not read; ERR_VILG_CHECKPOINT_FORMAT where the data are not there, or not those that the
 *   checksum was made of; ERR_VILG_IO
 */
export async function* tensorPieces(
  name: string,
  tensor: StoredTensor,
  { pieceBytes, checksums, signal }: PieceOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const itemSize = dtypeSize(readableDtype(name, tensor))
  const elements = elementsOf(tensor.shape)
  const pieceElements = Math.max(1, Math.floor(pieceBytes / itemSize))
  const { region, shape, strides, offset } = tensor
  const contiguous = isContiguous(shape, strides)
  // of a view of a part, no checksum is known
  const isWhole = contiguous && offset === 0 && elements * itemSize === region.length
  const expected = checksums && isWhole ? region.crc32 : undefined
  let checksum = 0
  for (let first = 0; first < elements; first += pieceElements) {
    signal?.throwIfAborted()
    const count = Math.min(pieceElements, elements - first)
    const piece = contiguous
      ? await readElements(tensor, itemSize, offset + first, count)
      : await gather(tensor, itemSize, first, count, pieceElements)
    if (expected !== undefined) checksum = crc32(piece, checksum)
    yield piece
  }
  if (expected !== undefined && checksum !== expected) {
    throw formatError(
      `Tensor ${name}: expected data of the checksum ${hex(expected)}, found ${hex(checksum)}: the file is damaged`,
      { tensor: name },
    )
  }
}

const hex = (value: number) => value.toString(16).padStart(8, '0')

function readElements(
  { region }: StoredTensor,
  itemSize: number,
  first: number,
  count: number,
): Promise<Uint8Array> {
  // a region was checked against its source, a view against its region
  return region.source.read(region.start + first * itemSize, count * itemSize)
}

/** `count` elements from number `first` on, in row-major order, of a tensor whose elements lie in another. */
async function gather(
  tensor: StoredTensor,
  itemSize: number,
  first: number,
  count: number,
  windowElements: number,
): Promise<Uint8Array> {
  let lowest = Infinity
  let highest = 0
  for (const place of places(tensor, first, count)) {
    lowest = Math.min(lowest, place)
    highest = Math.max(highest, place)
  }
  const out = new Uint8Array(count * itemSize)
  // the elements may be spread over far more than a piece: what lies between is read window by window
  for (let from = lowest; from <= highest; from += windowElements) {
    const to = Math.min(from + windowElements, highest + 1)
    const window = await readElements(tensor, itemSize, from, to - from)
    let at = 0
    for (const place of places(tensor, first, count)) {
      if (place >= from && place < to) {
        const source = (place - from) * itemSize
        for (let byte = 0; byte < itemSize; byte++) out[at + byte] = window[source + byte]!
      }
      at += itemSize
    }
  }
  return out
}

/** Where elements lie in their storage, in row-major order from number `first` on. */
function* places({ shape, strides, offset }: StoredTensor, first: number, count: number): Generator<number> {
  const index: number[] = []
  let place = offset
  let rest = first
  for (let i = shape.length - 1; i >= 0; i--) {
    index[i] = rest % shape[i]!
    rest = Math.floor(rest / shape[i]!)
    place += index[i]! * strides[i]!
  }
  for (let done = 0; done < count; done++) {
    yield place
    for (let i = shape.length - 1; i >= 0; i--) {
      index[i]!++
      place += strides[i]!
      if (index[i]! < shape[i]!) break
      place -= shape[i]! * strides[i]!
      index[i] = 0
    }
  }
}
