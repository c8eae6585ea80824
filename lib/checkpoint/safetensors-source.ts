import type { ByteSource } from './byte-source.ts'
import { formatError } from './format-error.ts'
import { SafetensorsFile } from './safetensors.ts'
import { type CheckpointContents, rowMajorStrides, type StoredTensor } from './stored-tensor.ts'

/** Whether a file begins as safetensors files do: with the length of a header that is JSON. */
export async function startsAsSafetensors(source: ByteSource): Promise<boolean> {
  return source.size > 8 && (await source.read(8, 1))[0] === 0x7b
}

/**
 * A safetensors file, its header checked by the native reader. Tensors are read from `source`, which must be the file at `path`, piece by
 * piece: a mapped file would count as memory of the process.
 *
 * @throws the errors of {@link SafetensorsFile.open}
 */
export async function readSafetensors(path: string, source: ByteSource): Promise<CheckpointContents> {
  await using file = await SafetensorsFile.open(path)
  const sizes = [...file.tensors.values()].map(({ byteLength }) => byteLength)
  // the format has no holes and nothing after the tensors, so that their sizes say where they lie
  let start = source.size - sizes.reduce((sum, size) => sum + size, 0)
  if (start < 8) throw formatError('Expected the file that was checked, found one that has changed')
  const tensors = new Map<string, StoredTensor>()
  for (const { name, dtype, shape, byteLength: length } of file.tensors.values()) {
    const region = { source, start, length }
    tensors.set(name, { dtype, shape, strides: rowMajorStrides(shape), offset: 0, region })
    start += length
  }
  return { tensors, metadata: Object.fromEntries(file.metadata) }
}
