import { VilgError } from '../errors.ts'
import { checkSignal } from '../native/call.ts'
import {
  describeValue,
  expectInteger,
  expectOneOf,
  expectString,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { writeWhole } from '../write-whole.ts'
import { maxRank } from './stored-tensor.ts'
import { dtypeSize, TENSOR_DTYPES, tensorArrays, type TensorDtype } from './tensor-dtypes.ts'
import type { TensorSource } from './tensor-source.ts'
import { toFloat32 } from './to-float32.ts'

/** One tensor to write piece by piece. */
export interface StreamedTensor {
  name: string
  dtype: TensorDtype
  shape: readonly number[]
  /** Its elements, little-endian and in row-major order, in pieces of any size; called once, when the file comes to it. */
  pieces: (signal?: AbortSignal) => AsyncIterable<Uint8Array>
}

/** Options of {@link streamSafetensors}. */
export interface StreamSafetensorsOptions {
  /** Texts by their keys, for `__metadata__`. */
  metadata?: ReadonlyMap<string, string>
  signal?: AbortSignal
  /** Called after each piece with the share that is written; what it throws ends the work. */
  onProgress?: (event: { phase: 'write'; fraction: number }) => void
}

// The format's own limit
const maxHeaderBytes = 100_000_000

/**
 * Writes a safetensors file of tensors that need not fit into memory, so that whoever reads `path`, at any moment and after any crash,
 * finds the old file or the whole new one.
 *
 * ```ts
 * await using checkpoint = await openCheckpoint('last.ckpt')
 * await streamSafetensors('weights.safetensors', checkpoint.names.map((name) => streamedTensor(checkpoint, name)))
 * ```
 *
 * @throws ERR_VILG_IO; ERR_VILG_INVALID_ARGUMENT for names that come twice or are none; ERR_VILG_SHAPE_MISMATCH where pieces do not add
 *   up to the shape; what `pieces` throws. Whatever is thrown, the old file is as it was
 */
export async function streamSafetensors(
  path: string,
  tensors: Iterable<StreamedTensor>,
  options: StreamSafetensorsOptions = {},
): Promise<void> {
  expectString('path', path)
  rejectUnknownKeys('streamSafetensors options', options, ['metadata', 'signal', 'onProgress'])
  const { signal, onProgress, metadata } = options
  checkSignal(signal)
  signal?.throwIfAborted()
  const entries = checkTensors(tensors)
  const total = entries.reduce((sum, { bytes }) => sum + bytes, 0)
  const header = headerOf(entries, metadata)
  await writeWhole(path, async (append) => {
    await append(header)
    let done = 0
    for (const { tensor, bytes } of entries) {
      let written = 0
      for await (const piece of tensor.pieces(signal)) {
        signal?.throwIfAborted()
        written += piece.length
        if (written > bytes) break
        await append(piece)
        done += piece.length
        onProgress?.({ phase: 'write', fraction: done / total })
      }
      if (written !== bytes) {
        const found = written > bytes ? `more than ${bytes}` : String(written)
        throw new VilgError(
          'ERR_VILG_SHAPE_MISMATCH',
          `Expected ${bytes} bytes for tensor ${tensor.name} (${tensor.dtype} [${tensor.shape.join(', ')}]), received ${found}`,
          { tensor: tensor.name },
        )
      }
    }
  })
}

/**
 * A tensor of a checkpoint for {@link streamSafetensors}.
 *
 * @param options `name`: what it is called there, its own name unless given. `dtype`: `keep`, the default, or `float32`
 * @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE where there is no such tensor; ERR_VILG_UNSUPPORTED for a dtype that is not read
 */
export function streamedTensor(
  source: TensorSource,
  name: string,
  options: { name?: string; dtype?: 'keep' | 'float32' } = {},
): StreamedTensor {
  rejectUnknownKeys('streamedTensor options', options, ['name', 'dtype'])
  const target = expectOneOf('dtype', options.dtype ?? 'keep', ['keep', 'float32'])
  const found = source.tensors.get(name)
  if (found === undefined) {
    throw new VilgError(
      'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
      `${source.path}: expected a tensor ${name}, found none`,
      {
        path: source.path,
        tensor: name,
      },
    )
  }
  const stored = TENSOR_DTYPES.find((dtype) => dtype === found.dtype)
  if (stored === undefined) {
    throw new VilgError(
      'ERR_VILG_UNSUPPORTED',
      `${source.path}: tensor ${name}: expected a dtype that this library reads, found ${found.dtype}`,
      { path: source.path, tensor: name },
    )
  }
  const dtype = target === 'keep' ? stored : 'F32'
  const pieces = (signal?: AbortSignal) =>
    dtype === stored ? source.stream(name, { signal }) : float32Pieces(source, name, stored, signal)
  return { name: options.name ?? name, dtype, shape: found.shape, pieces }
}

async function* float32Pieces(
  source: TensorSource,
  name: string,
  dtype: TensorDtype,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of source.stream(name, { signal })) {
    const floats = toFloat32(dtype, new tensorArrays[dtype](piece.buffer as ArrayBuffer))
    yield new Uint8Array(floats.buffer)
  }
}

interface Entry {
  tensor: StreamedTensor
  bytes: number
}

/** The tensors in the order of the file: large elements first, so that all are aligned, then by name. */
function checkTensors(tensors: Iterable<StreamedTensor>): Entry[] {
  const names = new Set<string>()
  const entries = [...tensors].map((tensor): Entry => {
    const name = expectString('name', tensor.name)
    if (name === '' || name === '__metadata__' || !isWellFormed(name)) {
      throw outOfRange('name', 'a tensor name in UTF-8 other than __metadata__', name)
    }
    if (names.has(name)) throw outOfRange('name', 'each name once', name)
    names.add(name)
    const dtype = expectOneOf(`the dtype of ${name}`, tensor.dtype, TENSOR_DTYPES)
    if (!Array.isArray(tensor.shape)) throw typeMismatch(`the shape of ${name}`, 'an array', tensor.shape)
    const elements = tensor.shape.map((dim) => expectInteger(`the shape of ${name}`, dim, { min: 0 }))
    const bytes = elements.reduce((product, dim) => product * dim, dtypeSize(dtype))
    if (!Number.isSafeInteger(bytes) || elements.length > maxRank) {
      throw outOfRange(
        `the shape of ${name}`,
        `at most ${maxRank} dimensions and less than 2^53 bytes`,
        tensor.shape,
      )
    }
    return { tensor, bytes }
  })
  const size = ({ tensor }: Entry) => dtypeSize(tensor.dtype)
  return entries.sort(
    (a, b) => size(b) - size(a) || Buffer.compare(Buffer.from(a.tensor.name), Buffer.from(b.tensor.name)),
  )
}

function headerOf(entries: readonly Entry[], metadata: ReadonlyMap<string, string> | undefined): Uint8Array {
  const items: [string, unknown][] = []
  if (metadata !== undefined && metadata.size > 0)
    items.push(['__metadata__', Object.fromEntries(checkMetadata(metadata))])
  let begin = 0
  for (const { tensor, bytes } of entries) {
    const { name, dtype, shape } = tensor
    items.push([name, { dtype, shape, data_offsets: [begin, begin + bytes] }])
    begin += bytes
  }
  // item by item: JSON.stringify of an object would put names of digits first
  const text = `{${items.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`
  const json = Buffer.from(text)
  const padded = Math.ceil(json.length / 8) * 8
  if (padded > maxHeaderBytes) {
    throw outOfRange('tensors', `a header of at most ${maxHeaderBytes} bytes`, padded)
  }
  const header = Buffer.alloc(8 + padded, ' ')
  header.writeBigUInt64LE(BigInt(padded))
  json.copy(header, 8)
  return header
}

function checkMetadata(metadata: ReadonlyMap<string, string>): [string, string][] {
  const pairs = [...metadata].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  for (const text of pairs.flat()) {
    if (!isWellFormed(expectString('metadata', text)))
      throw outOfRange('metadata', 'texts in UTF-8', describeValue(text))
  }
  return pairs
}

/** No lone surrogates, which UTF-8 cannot say. */
function isWellFormed(text: string): boolean {
  return Buffer.from(text).toString() === text
}
