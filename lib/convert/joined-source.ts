import { basename, extname } from 'node:path'
import { openCheckpoint } from '../checkpoint/open-checkpoint.ts'
import type { Json } from '../checkpoint/stored-tensor.ts'
import type { TensorArray } from '../checkpoint/tensor-dtypes.ts'
import type {
  ReadTensorOptions,
  StreamTensorOptions,
  TensorDescription,
  TensorSource,
} from '../checkpoint/tensor-source.ts'
import { VilgError } from '../errors.ts'

/**
 * Opens the file or files of one checkpoint. Of several, each tensor's name begins with that of its file without the extension, and a dot:
 * `encoder.blocks.input.w` is in `encoder.pkl`.
 *
 * @throws the errors of openCheckpoint; ERR_VILG_INVALID_ARGUMENT for two files of one name
 */
export async function openWeights(paths: readonly string[]): Promise<TensorSource> {
  if (paths.length === 1) return openCheckpoint(paths[0]!)
  const prefixes = paths.map((path) => `${basename(path, extname(path))}.`)
  const twice = prefixes.find((prefix, i) => prefixes.indexOf(prefix) !== i)
  if (twice !== undefined) {
    const message = `Expected files with names of their own, as tensors are told apart by them, found two called ${twice.slice(0, -1)}`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', message, { argument: 'weights' })
  }
  const files: TensorSource[] = []
  try {
    for (const path of paths) files.push(await openCheckpoint(path))
    return new JoinedSource(files, prefixes)
  } catch (error) {
    for (const file of files) await file.close()
    throw error
  }
}

/** The tensors of several files as one source, which closes them. */
class JoinedSource implements TensorSource {
  readonly path: string
  readonly kind = 'sharded'
  readonly names: readonly string[]
  readonly tensors: ReadonlyMap<string, TensorDescription>
  readonly metadata: Json
  readonly #files: readonly TensorSource[]
  readonly #places = new Map<string, { file: TensorSource; name: string }>()

  constructor(files: readonly TensorSource[], prefixes: readonly string[]) {
    this.path = files.map(({ path }) => path).join(' and ')
    this.#files = files
    const tensors = new Map<string, TensorDescription>()
    files.forEach((file, i) => {
      for (const [name, description] of file.tensors) {
        tensors.set(prefixes[i]! + name, description)
        this.#places.set(prefixes[i]! + name, { file, name })
      }
    })
    this.tensors = tensors
    this.names = Object.freeze([...tensors.keys()])
    this.metadata = files.map(({ metadata }) => metadata)
  }

  read(name: string, options?: ReadTensorOptions): Promise<TensorArray> {
    const place = this.#find(name)
    return place.file.read(place.name, options)
  }

  readFloat32(name: string, options?: ReadTensorOptions): Promise<Float32Array> {
    const place = this.#find(name)
    return place.file.readFloat32(place.name, options)
  }

  stream(name: string, options?: StreamTensorOptions): AsyncGenerator<Uint8Array, void, undefined> {
    const place = this.#find(name)
    return place.file.stream(place.name, options)
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #find(name: string): { file: TensorSource; name: string } {
    const place = this.#places.get(name)
    if (place !== undefined) return place
    const message = `${this.path}: expected a tensor ${name}, found none of that name among ${this.tensors.size}`
    throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', message, { path: this.path, tensor: name })
  }
}
