import type { NativeSafetensorsFile, NativeTensorInfo } from '../../types/native.d.ts'
import { native } from '../native/binding.ts'
import { type CallOptions, callNative } from '../native/call.ts'
import { Lifetime } from '../native/lifetime.ts'
import { expectOneOf, expectString, expectTypedArray, type TypedArray, typeMismatch } from '../validate.ts'
import { TENSOR_DTYPES, type TensorArray, tensorArrays, type TensorDtype } from './tensor-dtypes.ts'

/** What a file says of one tensor. `dtype` may be one of the format that this library cannot read. */
export type TensorInfo = Readonly<NativeTensorInfo>

/** One tensor to write. */
export interface TensorToWrite {
  name: string
  /** F32 unless given. */
  dtype?: TensorDtype
  shape: readonly number[]
  /** Its elements, as {@link TensorArray} has them. Copied before the call returns. */
  data: TypedArray
}

/**
 * A safetensors file, mapped into memory. Its header has been checked against its size; tensors are read one by one.
 *
 * ```ts
 * await using file = await SafetensorsFile.open('weights.safetensors')
 * const bias = await file.readFloat32('final_norm.bias')
 * ```
 */
export class SafetensorsFile {
  readonly #handle: NativeSafetensorsFile
  readonly #life: Lifetime
  /** The tensors in the order of the file, by name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** The strings of `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>

  private constructor(handle: NativeSafetensorsFile) {
    this.#handle = handle
    this.tensors = new Map(handle.tensors.map((info) => [info.name, Object.freeze(info)]))
    const pairs = handle.metadata
    this.metadata = new Map(pairs.flatMap((key, i) => (i % 2 === 0 ? [[key, pairs[i + 1]!] as const] : [])))
    this.#life = new Lifetime('SafetensorsFile', this)
  }

  /**
   * Opens and checks a file.
   *
   * @throws VilgError `ERR_VILG_IO` with the system's reason; `ERR_VILG_CHECKPOINT_FORMAT` naming tensor, expected and found
   */
  static async open(path: string, options: Pick<CallOptions, 'signal'> = {}): Promise<SafetensorsFile> {
    expectString('path', path)
    return new SafetensorsFile(
      await callNative(options, (control) => native().openSafetensors(path, control)),
    )
  }

  /**
   * The tensor's elements as the typed array of its dtype (bit patterns for F16 and BF16).
   *
   * @throws VilgError `ERR_VILG_CHECKPOINT_INCOMPATIBLE` where there is no such tensor; `ERR_VILG_DISPOSED`
   */
  read(name: string, options: Pick<CallOptions, 'signal'> = {}): Promise<TensorArray> {
    return this.#life.run(async (signal) => {
      expectString('name', name)
      const bytes = await callNative({ signal }, (control) => this.#handle.read(name, control))
      const dtype = expectOneOf(`the dtype of ${name}`, this.tensors.get(name)?.dtype, TENSOR_DTYPES)
      return new tensorArrays[dtype](bytes.buffer as ArrayBuffer)
    }, options.signal)
  }

  /**
   * The elements of an F32, BF16, F16 or F64 tensor as float32.
   *
   * @throws VilgError `ERR_VILG_UNSUPPORTED` for other dtypes, and the errors of {@link read}
   */
  readFloat32(name: string, options: Pick<CallOptions, 'signal'> = {}): Promise<Float32Array> {
    return this.#life.run(async (signal) => {
      expectString('name', name)
      return callNative({ signal }, (control) => this.#handle.readFloat32(name, control))
    }, options.signal)
  }

  /** True from the moment dispose() was called. */
  get disposed(): boolean {
    return this.#life.disposed
  }

  /** Unmaps the file. Reads in flight reject with `ERR_VILG_DISPOSED`. */
  dispose(): Promise<void> {
    return this.#life.dispose(() => this.#handle.dispose())
  }

  /** The same as {@link dispose}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/**
 * Writes a safetensors file so that whoever reads `path`, at any moment and after any crash, finds the old file or the whole new one.
 *
 * @throws VilgError `ERR_VILG_IO` (disk full, no permission): the old file is as it was; `ERR_VILG_SHAPE_MISMATCH` where an array does not have
 *   the elements of its shape
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  options: Pick<CallOptions, 'signal'> & { metadata?: ReadonlyMap<string, string> } = {},
): Promise<void> {
  expectString('path', path)
  const all = [...tensors].map(({ name, dtype = 'F32', shape, data }) => {
    expectString('name', name)
    expectOneOf(`the dtype of ${name}`, dtype, TENSOR_DTYPES)
    if (!Array.isArray(shape)) throw typeMismatch(`the shape of ${name}`, 'an array', shape)
    const elements = shape.reduce((product: number, dim: number) => product * dim, 1)
    expectTypedArray(`the data of ${name}`, data, tensorArrays[dtype] as typeof Float32Array, elements)
    return { name, dtype, shape, data }
  })
  const metadata = [...(options.metadata ?? [])].flat()
  metadata.forEach((text, i) => expectString(i % 2 === 0 ? 'a metadata key' : 'a metadata value', text))
  await callNative(options, (control) => native().writeSafetensors(path, all, metadata, control))
}
