/** The element types that checkpoints have and this library reads as typed arrays, by their names in safetensors files. */
export const TENSOR_DTYPES = Object.freeze([
  'BOOL',
  'U8',
  'I8',
  'I16',
  'U16',
  'F16',
  'BF16',
  'I32',
  'U32',
  'F32',
  'I64',
  'U64',
  'F64',
] as const)
/** One of {@link TENSOR_DTYPES}. */
export type TensorDtype = (typeof TENSOR_DTYPES)[number]

/** The typed arrays of dtypes. F16 and BF16 have none: their bit patterns are 16-bit integers. */
export const tensorArrays = {
  BOOL: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  F64: Float64Array,
} as const satisfies Record<TensorDtype, unknown>

/** The typed array of a dtype's elements; bit patterns for F16 and BF16. */
export type TensorArray<D extends TensorDtype = TensorDtype> = InstanceType<(typeof tensorArrays)[D]>

/** Bytes of an element. */
export function dtypeSize(dtype: TensorDtype): number {
  return tensorArrays[dtype].BYTES_PER_ELEMENT
}

/** Whether a name is that of a dtype which this library reads. */
export function isTensorDtype(name: string): name is TensorDtype {
  return (TENSOR_DTYPES as readonly string[]).includes(name)
}
