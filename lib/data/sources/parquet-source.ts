import { open } from 'node:fs/promises'
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet'
import { compressors } from 'hyparquet-compressors'
import { VilgError } from '../../errors.ts'
import { CAPTION_FIELDS, captionsOf, decodeText } from './captions.ts'
import { fingerprintOf } from './fingerprint.ts'
import { type FieldNames, missingColumns } from './list-file.ts'
import {
  type BrokenSample,
  BrokenSamples,
  type ImageSample,
  MAX_SHARD_IMAGE_BYTES,
  type SampleSource,
} from './sample.ts'
import { type ShardFile, sizesOf } from './shard-files.ts'

/** The most bytes, uncompressed, that the needed columns of one row group may have: they are in memory together. */
const maxGroupBytes = 2 ** 30

interface RowGroup {
  file: ShardFile
  /** Number of the group in its file, and of its rows. */
  group: number
  first: number
  end: number
  columns: Columns
}
interface Columns {
  image: string
  caption: string
}

/**
 * Parquet files with a column of encoded pictures (bytes, or a struct with a field `bytes`, as Hugging Face's data sets have) and
 * one of captions (strings or lists of strings). A shard is a row group, which is in memory as a whole.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT where a file lacks the columns or has a row group of more than 1 GiB; ERR_VILG_IO
 */
export async function openParquetSource(
  name: string,
  files: readonly ShardFile[],
  fields: FieldNames = {},
): Promise<SampleSource<'images'>> {
  const sizes = await sizesOf(files)
  const broken = new BrokenSamples()
  const groups: RowGroup[] = []
  for (const file of files) {
    const metadata = await readMetadata(file).catch((error: Error) => {
      broken.add(file.name, `truncated, damaged or no Parquet file: ${error.message}`)
    })
    if (metadata !== undefined) groups.push(...rowGroups(file, metadata, fields))
  }
  return {
    name,
    kind: 'images',
    shards: groups.length,
    fingerprint: fingerprintOf([fields, ...sizes]),
    broken: broken.report(),
    read: (shard, from) => readGroup(groups[shard]!, from),
  }
}

async function withFile<T>({ path }: ShardFile, work: (file: AsyncBuffer) => Promise<T>): Promise<T> {
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    return await work({
      byteLength: size,
      async slice(start, end = size) {
        const bytes = new Uint8Array(end - start)
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
        if (bytesRead < bytes.length) throw new Error(`it ends at byte ${start + bytesRead}`)
        return bytes.buffer
      },
    })
  } finally {
    await handle.close()
  }
}

function readMetadata(file: ShardFile): Promise<FileMetaData> {
  return withFile(file, (buffer) => parquetMetadataAsync(buffer))
}

function rowGroups(
  file: ShardFile,
  metadata: FileMetaData,
  { image = 'image', caption }: FieldNames,
): RowGroup[] {
  const found = parquetSchema(metadata).children.map(({ element }) => element.name)
  const captions = caption === undefined ? CAPTION_FIELDS : [caption]
  const captionColumn = captions.find((one) => found.includes(one))
  if (captionColumn === undefined || !found.includes(image)) {
    const missing = [
      ...(found.includes(image) ? [] : [image]),
      ...(captionColumn === undefined ? [caption ?? 'text'] : []),
    ]
    throw missingColumns(file.path, missing, found)
  }
  const columns = { image, caption: captionColumn }
  let first = 0
  return metadata.row_groups.map((group, number) => {
    checkGroupSize(file, number, group, columns)
    const end = first + Number(group.num_rows)
    const result = { file, group: number, first, end, columns }
    first = end
    return result
  })
}

function checkGroupSize(
  { path }: ShardFile,
  number: number,
  group: FileMetaData['row_groups'][number],
  { image, caption }: Columns,
): void {
  const needed = group.columns.filter(({ meta_data: data }) =>
    [image, caption].includes(data?.path_in_schema[0] ?? ''),
  )
  const bytes = needed.reduce(
    (sum, { meta_data: data }) => sum + Number(data?.total_uncompressed_size ?? 0),
    0,
  )
  if (bytes <= maxGroupBytes) return
  const text = `Expected row groups of at most ${maxGroupBytes} bytes in ${path}, and group ${number} has ${bytes}. Write the file with smaller ones`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path, group: number, bytes })
}

async function* readGroup(rowGroup: RowGroup, from: number): AsyncGenerator<ImageSample | BrokenSample> {
  const { file, first, end, columns } = rowGroup
  if (first + from >= end) return
  let rows: Record<string, unknown>[]
  try {
    rows = await withFile(file, (buffer) =>
      parquetReadObjects({
        file: buffer,
        columns: [columns.image, columns.caption],
        rowStart: first + from,
        rowEnd: end,
        compressors,
        // as bytes, so that every caption is decoded, and found broken, by itself
        utf8: false,
        parsers: { stringFromBytes: (bytes) => bytes },
      }),
    )
  } catch (error) {
    const reason = `truncated or damaged in row group ${rowGroup.group}: ${(error as Error).message}`
    yield { index: from, id: file.name, reason }
    return
  }
  for (const [i, row] of rows.entries()) yield toSample(rowGroup, from + i, row)
}

function toSample({ file, first, columns }: RowGroup, index: number, row: Record<string, unknown>) {
  const id = `${file.name}/${first + index}`
  const image = imageBytes(row[columns.image])
  if (typeof image === 'string') return { index, id, reason: `its ${columns.image} ${image}` }
  const captions = decodeCell(row[columns.caption])
  if ('reason' in captions) return { index, id, reason: `its ${columns.caption} ${captions.reason}` }
  const found = captionsOf({ [columns.caption]: captions.value }, columns.caption)
  if ('reason' in found) return { index, id, reason: `it ${found.reason}` }
  // copied, as it lies in the memory of a page with many others
  return { index, id, captions: found.captions, image: image.slice() }
}

/** The picture of a row, or what is wrong with it. */
function imageBytes(value: unknown): Uint8Array | string {
  const bytes = value instanceof Uint8Array ? value : (value as { bytes?: unknown } | null | undefined)?.bytes
  if (!(bytes instanceof Uint8Array)) return 'has no bytes'
  if (bytes.length > MAX_SHARD_IMAGE_BYTES)
    return `has ${bytes.length} bytes, at most ${MAX_SHARD_IMAGE_BYTES} are read`
  return bytes
}

/** Bytes, or a list of bytes, as text. */
function decodeCell(value: unknown): { value: unknown } | { reason: string } {
  if (Array.isArray(value)) {
    const cells = value.map(decodeCell)
    const bad = cells.find((cell) => 'reason' in cell)
    return bad ?? { value: cells.map((cell) => (cell as { value: unknown }).value) }
  }
  if (!(value instanceof Uint8Array)) return { value }
  const decoded = decodeText(value)
  return 'reason' in decoded ? decoded : { value: decoded.text }
}
