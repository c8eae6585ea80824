import type { ByteSource } from './byte-source.ts'
import { formatError, unsupported } from './format-error.ts'
import { StorageTable } from './pickle/tensors.ts'
import { maxPickleBytes, unpickle } from './pickle/unpickle.ts'
import { torchContents } from './torch-contents.ts'
import type { CheckpointContents } from './stored-tensor.ts'
import type { ZipArchive } from './zip-archive.ts'

/** The record that a zip file of `torch.save` has in its one folder. */
const pickleRecord = /^([^/]*)\/data\.pkl$/

/** Whether a zip file is one of `torch.save`. */
export function isTorchZip(archive: ZipArchive): boolean {
  return archive.names.some((name) => pickleRecord.test(name))
}

/**
 * A file of `torch.save` since PyTorch 1.6: a zip file with the pickle `data.pkl`, the storages `data/<key>`, and `byteorder`, all in one
 * folder.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED, ERR_VILG_IO
 */
export async function readTorchZip(archive: ZipArchive, checksums: boolean): Promise<CheckpointContents> {
  const pickles = archive.names.filter((name) => pickleRecord.test(name))
  if (pickles.length !== 1) {
    throw formatError(`Expected one record data.pkl in the file, found ${pickles.length}`)
  }
  const folder = pickles[0]!.slice(0, -'/data.pkl'.length)
  await checkByteOrder(archive, `${folder}/byteorder`, checksums)
  const bytes = await archive.read(pickles[0]!, { maxBytes: maxPickleBytes, checksums })
  const table = new StorageTable()
  const root = unpickle(bytes, table.load)
  return torchContents(root, ({ key }) => archive.region(`${folder}/data/${key}`))
}

/** Files of PyTorch before 2.1 do not say it; they were little-endian wherever anybody had a GPU. */
async function checkByteOrder(archive: ZipArchive, record: string, checksums: boolean): Promise<void> {
  if (!archive.has(record)) return
  const bytes = await archive.read(record, { maxBytes: 64, checksums })
  const order = Buffer.from(bytes).toString('latin1').trim()
  if (order !== 'little') {
    throw unsupported(`Expected little-endian data, found the byte order ${JSON.stringify(order)}`)
  }
}

/** Whether a file begins as zip files do. */
export async function startsAsZip(source: ByteSource): Promise<boolean> {
  if (source.size < 4) return false
  const [a, b, c, d] = await source.read(0, 4)
  return a === 0x50 && b === 0x4b && ((c === 3 && d === 4) || (c === 5 && d === 6))
}
