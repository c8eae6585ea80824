import type { Region } from './byte-source.ts'
import { formatError } from './format-error.ts'

/** Where the elements of a tensor lie. */
export interface StoredTensor {
  /** A name of the safetensors format; it may be one that this library cannot read. */
  dtype: string
  shape: readonly number[]
  /** In elements, one a dimension; none is negative. */
  strides: readonly number[]
  /** Elements from the start of the region to the first one. */
  offset: number
  region: Region
}

/** What a format's reader found in a file. */
export interface CheckpointContents {
  tensors: Map<string, StoredTensor>
  /** Everything that is not a tensor. */
  metadata: Json
}

/** A value that JSON can say, but that an entry of `undefined` is left out. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** Dimensions of a tensor at most. Formats have no limit; without one, a few bytes could ask for gigabytes of shapes. */
export const maxRank = 64
// Elements that are several times in a tensor (an expanded view) cost nothing in a file, and everything when they are read
const maxRepeated = 2 ** 20

/**
 * The number of elements of a shape.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT for what are no sizes, more than 64 dimensions, and products beyond 2^53 - 1
 */
export function elementsOf(shape: readonly unknown[]): number {
  if (shape.length > maxRank) {
    throw formatError(`Expected at most ${maxRank} dimensions, found ${shape.length}`)
  }
  // sizes first, so that a zero does not hide a size that is none
  const sizes = shape.map((dim) => {
    if (typeof dim !== 'number' || !Number.isSafeInteger(dim) || dim < 0) {
      throw formatError(`Expected sizes from 0 to 2^53 - 1 in a shape, found ${String(dim)}`)
    }
    return dim
  })
  if (sizes.includes(0)) return 0
  let product = 1
  for (const dim of sizes) {
    product *= dim
    if (!Number.isSafeInteger(product)) {
      throw formatError(`Expected less than 2^53 elements, found the shape [${sizes.join(', ')}]`)
    }
  }
  return product
}

/** Strides of a tensor whose elements lie one after the other, the last dimension fastest. */
export function rowMajorStrides(shape: readonly number[]): number[] {
  const strides: number[] = []
  let stride = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride
    stride *= Math.max(shape[i]!, 1)
  }
  return strides
}

/** Whether the elements lie one after the other. */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.includes(0)) return true
  const expected = rowMajorStrides(shape)
  return shape.every((dim, i) => dim === 1 || strides[i] === expected[i])
}

/**
 * Checks that a view stays within its storage.
 *
 * @param length elements of the storage
 * @throws ERR_VILG_CHECKPOINT_FORMAT for strides and offsets that are negative or lead out of the storage, and for views that repeat
 *   elements so often that they are larger than both their storage and 2^20 elements
 */
export function checkView(
  shape: readonly unknown[],
  strides: readonly unknown[],
  offset: unknown,
  length: number,
): asserts shape is readonly number[] {
  const elements = elementsOf(shape)
  if (strides.length !== shape.length) {
    throw formatError(`Expected a stride a dimension (${shape.length}), found ${strides.length}`)
  }
  for (const one of [offset, ...strides]) {
    if (typeof one !== 'number' || !Number.isSafeInteger(one) || one < 0) {
      throw formatError(`Expected strides and offset from 0 to 2^53 - 1, found ${String(one)}`)
    }
  }
  if (elements === 0) {
    if ((offset as number) > length) throw beyond(offset as number, length)
    return
  }
  let last = offset as number
  for (const [i, dim] of (shape as readonly number[]).entries()) {
    // each term may round, but only upwards of 2^53, where it is refused anyway
    last += (dim - 1) * (strides[i] as number)
    if (last >= length) throw beyond(last, length)
  }
  if (last >= length) throw beyond(last, length)
  if (elements > Math.max(length, maxRepeated)) {
    throw formatError(
      `Expected a view of at most as many elements as its storage (${length}), found one of ${elements} that repeats them`,
    )
  }
}

function beyond(last: number, length: number): Error {
  return formatError(
    `Expected a view within its storage of ${length} elements, found one that reaches element ${last}`,
  )
}
