import { VilgError } from '../errors.ts'
import { checkSignal } from '../native/call.ts'
import { Lifetime } from '../native/lifetime.ts'
import { expectInteger, expectString, rejectUnknownKeys } from '../validate.ts'
import { formatError, inFile, unsupported, withPath } from './format-error.ts'
import { readableDtype, tensorPieces } from './read-tensor.ts'
import { type CheckpointContents, elementsOf, type Json, type StoredTensor } from './stored-tensor.ts'
import { dtypeSize, type TensorArray, tensorArrays } from './tensor-dtypes.ts'
import { toFloat32 } from './to-float32.ts'

/** The formats that {@link openCheckpoint} reads. `sharded` is the index of several files, which may be of any of the others. */
export const CHECKPOINT_KINDS = Object.freeze([
  'safetensors',
  'torch-zip',
  'torch-legacy',
  'npz',
  'sharded',
] as const)
/** One of {@link CHECKPOINT_KINDS}. */
export type CheckpointKind = (typeof CHECKPOINT_KINDS)[number]

/** What a checkpoint says of a tensor. */
export interface TensorDescription {
  /** A name of the safetensors format, such as `F32`; tensors of one that is not in TENSOR_DTYPES are listed and cannot be read. */
  readonly dtype: string
  readonly shape: readonly number[]
}

/** Options of {@link TensorSource.read}. */
export interface ReadTensorOptions {
  signal?: AbortSignal | undefined
}

/** Options of {@link TensorSource.stream}. */
export interface StreamTensorOptions extends ReadTensorOptions {
  /** Bytes of a piece at most, from 1024; 16 MiB unless given. */
  pieceBytes?: number
}

/** Tensors by their names, whatever file they come from. */
export interface TensorSource extends AsyncDisposable {
  readonly path: string
  readonly kind: CheckpointKind
  /** In the order of the file. */
  readonly names: readonly string[]
  readonly tensors: ReadonlyMap<string, TensorDescription>
  /** What the file says beside its tensors, as plain JSON: hyperparameters, steps, optimizer settings. Classes are names in `stub`. */
  readonly metadata: Json
  /**
   * The elements of a tensor in row-major order, as the typed array of its dtype (bit patterns for F16 and BF16).
   *
   * @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE where there is no such tensor; ERR_VILG_UNSUPPORTED for dtypes that are not read;
   *   ERR_VILG_CHECKPOINT_FORMAT for damaged data; ERR_VILG_IO; ERR_VILG_DISPOSED after close()
   */
  read(name: string, options?: ReadTensorOptions): Promise<TensorArray>
  /** The same as float32, integers and F64 rounded to the nearest. */
  readFloat32(name: string, options?: ReadTensorOptions): Promise<Float32Array>
  /**
   * The bytes of {@link read}, little-endian, in pieces of whole elements, each in a buffer of its own. Memory is that of a few pieces,
   * however large the tensor.
   */
  stream(name: string, options?: StreamTensorOptions): AsyncGenerator<Uint8Array, void, undefined>
  /** Closes the files. Reads in flight reject with `ERR_VILG_DISPOSED`. */
  close(): Promise<void>
}

const defaultPieceBytes = 2 ** 24
// Typed arrays of more than 2^32 bytes are refused by some of the supported Node versions
const maxArrayBytes = 2 ** 32

/** What a source of tensors closes with itself. */
interface Closable {
  close(): Promise<void>
}

/** The tensors of one file, or of several that belong together. */
export class TensorFile implements TensorSource {
  readonly path: string
  readonly kind: CheckpointKind
  readonly names: readonly string[]
  readonly tensors: ReadonlyMap<string, TensorDescription>
  readonly metadata: Json
  readonly #stored: ReadonlyMap<string, StoredTensor>
  readonly #sources: readonly Closable[]
  readonly #checksums: boolean
  readonly #life: Lifetime

  /** @param sources what is closed with this object */
  constructor(
    path: string,
    kind: CheckpointKind,
    { tensors, metadata }: CheckpointContents,
    sources: readonly Closable[],
    checksums: boolean,
  ) {
    this.path = path
    this.kind = kind
    this.names = Object.freeze([...tensors.keys()])
    this.tensors = new Map(
      [...tensors].map(([name, { dtype, shape }]) => [
        name,
        Object.freeze({ dtype, shape: Object.freeze([...shape]) }),
      ]),
    )
    this.metadata = metadata
    this.#stored = tensors
    this.#sources = sources
    this.#checksums = checksums
    this.#life = new Lifetime('TensorSource', this)
  }

  /**
   * The named tensors of several files as one source, which takes the files over.
   *
   * @throws ERR_VILG_CHECKPOINT_FORMAT where a file lacks a tensor that it should have
   */
  static join(
    path: string,
    files: readonly TensorFile[],
    weights: readonly (readonly [name: string, file: TensorFile])[],
    checksums: boolean,
  ): TensorFile {
    const tensors = new Map<string, StoredTensor>()
    for (const [name, file] of weights) {
      const tensor = file.#stored.get(name)
      if (tensor === undefined) {
        throw withPath(
          path,
          formatError(`Expected tensor ${name} in ${file.path}, found none of that name there`),
        )
      }
      tensors.set(name, tensor)
    }
    const metadata = Object.assign({}, ...files.map((file) => file.metadata)) as Json
    return new TensorFile(path, 'sharded', { tensors, metadata }, files, checksums)
  }

  async read(name: string, options: ReadTensorOptions = {}): Promise<TensorArray> {
    rejectUnknownKeys('read options', options, ['signal'])
    checkSignal(options.signal)
    const tensor = this.#find(name)
    return this.#life.run(
      (signal) => inFile(this.path, () => this.#readWhole(name, tensor, signal)),
      options.signal,
    )
  }

  async readFloat32(name: string, options: ReadTensorOptions = {}): Promise<Float32Array> {
    const elements = await this.read(name, options)
    return toFloat32(readableDtype(name, this.#find(name)), elements)
  }

  async *stream(
    name: string,
    options: StreamTensorOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    rejectUnknownKeys('stream options', options, ['signal', 'pieceBytes'])
    checkSignal(options.signal)
    const pieceBytes = expectInteger('pieceBytes', options.pieceBytes ?? defaultPieceBytes, {
      min: 1024,
      max: 2 ** 30,
    })
    const tensor = this.#find(name)
    const pieces = tensorPieces(name, tensor, {
      pieceBytes,
      checksums: this.#checksums,
      signal: options.signal,
    })
    for (;;) {
      const { value, done } = await this.#life.run(
        () => inFile(this.path, () => pieces.next()),
        options.signal,
      )
      if (done === true) return
      yield value
    }
  }

  close(): Promise<void> {
    return this.#life.dispose(async () => {
      for (const source of this.#sources) await source.close()
    })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #readWhole(name: string, tensor: StoredTensor, signal: AbortSignal): Promise<TensorArray> {
    const dtype = readableDtype(name, tensor)
    const bytes = elementsOf(tensor.shape) * dtypeSize(dtype)
    if (bytes > maxArrayBytes) {
      throw unsupported(
        `Tensor ${name}: expected at most ${maxArrayBytes} bytes in one array, found ${bytes}; stream it`,
        {
          tensor: name,
        },
      )
    }
    const whole = allocate(name, bytes)
    let at = 0
    const options = { pieceBytes: defaultPieceBytes, checksums: this.#checksums, signal }
    for await (const piece of tensorPieces(name, tensor, options)) {
      whole.set(piece, at)
      at += piece.length
    }
    return new tensorArrays[dtype](whole.buffer)
  }

  #find(name: string): StoredTensor {
    expectString('name', name)
    this.#life.check()
    const tensor = this.#stored.get(name)
    if (tensor !== undefined) return tensor
    throw new VilgError(
      'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
      `${this.path}: expected a tensor ${name}, found none of that name among ${this.#stored.size}`,
      { path: this.path, tensor: name },
    )
  }
}

function allocate(name: string, bytes: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(bytes)
  } catch (cause) {
    const message = `Tensor ${name}: expected memory for ${bytes} bytes: ${(cause as Error).message}; stream it`
    throw new VilgError('ERR_VILG_OUT_OF_MEMORY', message, { tensor: name, bytes }, { cause })
  }
}
