import { dirname, join } from 'node:path'
import { VilgError } from '../errors.ts'
import { readJson } from '../model/config-file.ts'
import { expectBoolean, expectString, rejectUnknownKeys } from '../validate.ts'
import { type ByteSource, FileBytes } from './byte-source.ts'
import { formatError, inFile, unsupported } from './format-error.ts'
import { isNpz, readNpz } from './npz.ts'
import { readSafetensors, startsAsSafetensors } from './safetensors-source.ts'
import type { CheckpointContents } from './stored-tensor.ts'
import { type CheckpointKind, TensorFile, type TensorSource } from './tensor-source.ts'
import { readTorchLegacy, startsAsPickle, startsAsTar } from './torch-legacy.ts'
import { isTorchZip, readTorchZip, startsAsZip } from './torch-zip.ts'
import { ZipArchive } from './zip-archive.ts'

/** Options of {@link openCheckpoint}. */
export interface OpenCheckpointOptions {
  /**
   * Whether records of zip files are held against their checksums; true unless given. `false` reads the files of a PyTorch that was told
   * not to compute them (`torch.serialization.set_crc32_options(False)`).
   */
  checksums?: boolean
}

/**
 * Opens a file of tensors, whoever wrote it: `.safetensors`, files of `torch.save` (`.ckpt`, `.pt`, `.pth`, `.bin`) of PyTorch 0.4 and
 * later, `.npz`, and the `.index.json` of a checkpoint in several such files. The format is told by the content, not by the name.
 *
 * Pickles are read without running anything. Names, dtypes and shapes are checked and known at once; tensors are read when they are asked
 * for.
 *
 * ```ts
 * await using checkpoint = await openCheckpoint('last.ckpt')
 * for (const [name, { dtype, shape }] of checkpoint.tensors) console.log(name, dtype, shape)
 * const weight = await checkpoint.readFloat32('state_dict.decoder.conv_out.weight')
 * ```
 *
 * @throws ERR_VILG_IO; ERR_VILG_CHECKPOINT_FORMAT for files that are damaged or of no known format; ERR_VILG_UNSUPPORTED for what is not
 *   read: big-endian data, sparse and quantized tensors, compressed records, names by which a pickle could run code
 */
export async function openCheckpoint(
  path: string,
  options: OpenCheckpointOptions = {},
): Promise<TensorSource> {
  expectString('path', path)
  rejectUnknownKeys('openCheckpoint options', options, ['checksums'])
  const checksums = expectBoolean('checksums', options.checksums ?? true)
  return path.endsWith('.index.json') ? openIndex(path, checksums) : openFile(path, checksums)
}

async function openFile(path: string, checksums: boolean): Promise<TensorFile> {
  const source = await FileBytes.open(path)
  try {
    const { kind, contents } = await inFile(path, () => readFormat(path, source, checksums))
    return new TensorFile(path, kind, contents, [source], checksums)
  } catch (error) {
    await source.close()
    throw error
  }
}

/**
 * Finds the format of a file and reads everything but the tensors' data.
 *
 * @param path of the same file as `source`, for the native reader
 */
export async function readFormat(
  path: string,
  source: ByteSource,
  checksums: boolean,
): Promise<{ kind: CheckpointKind; contents: CheckpointContents }> {
  if (await startsAsZip(source)) {
    const archive = await ZipArchive.open(source)
    if (isTorchZip(archive)) return { kind: 'torch-zip', contents: await readTorchZip(archive, checksums) }
    if (isNpz(archive)) return { kind: 'npz', contents: await readNpz(archive, checksums) }
    throw formatError(
      'Expected a zip file of torch.save (with data.pkl in its one folder) or numpy.savez, found one with other records',
    )
  }
  if (await startsAsPickle(source)) return { kind: 'torch-legacy', contents: await readTorchLegacy(source) }
  if (await startsAsTar(source)) {
    throw unsupported(
      'Expected a file of PyTorch 0.4 or later, found a tar file as earlier ones wrote it; load it there and save it again',
    )
  }
  if (await startsAsSafetensors(source)) {
    return { kind: 'safetensors', contents: await readSafetensors(path, source) }
  }
  throw formatError(
    'Expected a safetensors file, a file of torch.save, or an .npz file, found another format',
  )
}

// File names that lead nowhere else than beside the index
const plainName = /^[^/\\\0]+$/
const maxShards = 10_000

/** A checkpoint in several files: `weight_map` of its JSON says which tensor is in which. */
async function openIndex(path: string, checksums: boolean): Promise<TensorSource> {
  const { weight_map: map } = await readJson(
    path,
    `Expected the index of a checkpoint, found no file ${path}`,
  )
  const fail = (expected: string) => {
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', `${path}: expected ${expected}`, { path })
  }
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    fail('weight_map, an object of file names')
  const weights = Object.entries(map as Record<string, unknown>)
  const files = [...new Set(weights.map(([, file]) => file))]
  if (files.length > maxShards) fail(`at most ${maxShards} files`)
  for (const file of files) {
    if (
      typeof file !== 'string' ||
      !plainName.test(file) ||
      file === '.' ||
      file === '..' ||
      file.endsWith('.index.json')
    ) {
      fail(`names of files beside it in weight_map, found ${JSON.stringify(file)}`)
    }
  }
  const shards = new Map<string, TensorFile>()
  try {
    for (const file of files as string[])
      shards.set(file, await openFile(join(dirname(path), file), checksums))
    return TensorFile.join(
      path,
      [...shards.values()],
      weights.map(([name, file]) => [name, shards.get(file as string)!]),
      checksums,
    )
  } catch (error) {
    for (const shard of shards.values()) await shard.close()
    throw error
  }
}
