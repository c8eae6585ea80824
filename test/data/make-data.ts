import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { ExecutionContext } from 'ava'
import { parquetWriteFile } from 'hyparquet-writer'
import { pack } from 'tar-stream'
import { encodePng } from '../../lib/data/image.ts'
import type { BrokenSample, Sample, SampleSource } from '../../lib/data/sources/sample.ts'

/** A folder that goes away with the test. */
export async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-data-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** A picture of 8 x 8 pixels of one value, which tells it from others. */
export function png(value: number): Promise<Buffer> {
  return encodePng({ pixels: new Uint8Array(8 * 8 * 3).fill(value), width: 8, height: 8 })
}

/** Writes a file with the folders that it needs. */
export async function put(folder: string, name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
  return path
}

/** Writes a tar file of the entries, in their order. */
export async function putTar(
  folder: string,
  name: string,
  entries: readonly (readonly [name: string, content: string | Uint8Array])[],
): Promise<string> {
  const tar = pack()
  for (const [entry, content] of entries) tar.entry({ name: entry }, Buffer.from(content))
  tar.finalize()
  const path = join(folder, name)
  await pipeline(tar, createWriteStream(path))
  return path
}

/** Writes a shard with the pictures of these values; captions and keys are the values. */
export async function putNumberedTar(
  folder: string,
  name: string,
  values: readonly number[],
): Promise<string> {
  const entries: [string, string | Uint8Array][] = []
  for (const value of values)
    entries.push([`${value}.png`, await png(value)], [`${value}.txt`, String(value)])
  return putTar(folder, name, entries)
}

/** Writes a Parquet file of pictures of these values, `rowGroupSize` a group. */
export async function putNumberedParquet(
  folder: string,
  name: string,
  values: readonly number[],
  rowGroupSize: number,
): Promise<string> {
  const filename = join(folder, name)
  parquetWriteFile({
    filename,
    rowGroupSize,
    columnData: [
      { name: 'image', data: await Promise.all(values.map(png)), type: 'BYTE_ARRAY' },
      { name: 'text', data: values.map(String), type: 'STRING' },
    ],
  })
  return filename
}

/** A folder of pictures of these values, with captions beside them. */
export async function putNumberedFolder(folder: string, values: readonly number[]): Promise<string> {
  for (const value of values) {
    await put(folder, `${value}.png`, await png(value))
    await put(folder, `${value}.txt`, String(value))
  }
  return folder
}

/** All that a source gives, shard by shard. */
export async function readAll(source: SampleSource): Promise<(Sample | BrokenSample)[]> {
  const all: (Sample | BrokenSample)[] = []
  for (let shard = 0; shard < source.shards; shard++) {
    for await (const sample of source.read(shard, 0)) all.push(sample)
  }
  return all
}

/** The integers from `first` on. */
export function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i)
}
