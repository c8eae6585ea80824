import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { VilgError } from '../../errors.ts'
import { expectOneOf, expectString, rejectUnknownKeys } from '../../validate.ts'
import { CODE_INDEX_FILE } from '../codes/code-index.ts'
import { type CodeSource, openCodeSource } from '../codes/code-source.ts'
import { byCodeUnit } from './folder-list.ts'
import { openListSource } from './list-source.ts'
import type { FieldNames } from './list-file.ts'
import { openParquetSource } from './parquet-source.ts'
import type { SampleSource } from './sample.ts'
import type { ShardFile } from './shard-files.ts'
import { openTarSource } from './tar-source.ts'

/** What a source can be. `list`: pictures in files, in a folder or named by a `.jsonl` or `.csv` file. */
export const SOURCE_FORMATS = Object.freeze(['list', 'tar', 'parquet', 'codes'] as const)

/** One of {@link SOURCE_FORMATS}. */
export type SourceFormat = (typeof SOURCE_FORMATS)[number]

/** Options of {@link openSource}. */
export interface OpenSourceOptions {
  /** Found out by what lies at the path unless given. */
  format?: SourceFormat
  /** Field or column of the picture: `file` in lists, `image` in Parquet unless given. */
  image?: string
  /** Field or column of the captions: the first that is there of `texts`, `text` and `caption` unless given. */
  caption?: string
}

/** Which options a format takes. */
const optionsOf: Readonly<Record<SourceFormat, readonly (keyof FieldNames)[]>> = {
  list: ['image', 'caption'],
  tar: ['caption'],
  parquet: ['image', 'caption'],
  codes: [],
}

/**
 * Opens pictures with captions, or codes of such.
 *
 * @param path a folder of pictures, a list of them (`.jsonl`, `.csv`), a tar or Parquet file or a folder of such, or a folder of codes
 * @throws ERR_VILG_IO; ERR_VILG_INVALID_ARGUMENT where it is none of these
 */
export async function openSource(
  path: string,
  options: OpenSourceOptions = {},
): Promise<SampleSource<'images'> | CodeSource> {
  expectString('path', path)
  rejectUnknownKeys('openSource options', options, ['format', 'image', 'caption'])
  const { format: given, ...fields } = options
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) expectString(name, value)
  const found = await look(path)
  const format = given === undefined ? formatOf(path, found) : expectOneOf('format', given, SOURCE_FORMATS)
  rejectUnknownKeys(`openSource options (${format})`, fields, optionsOf[format])
  switch (format) {
    case 'list':
      return openListSource(path, fields)
    case 'tar':
      return openTarSource(path, shardFiles(path, found, '.tar'), fields)
    case 'parquet':
      return openParquetSource(path, shardFiles(path, found, '.parquet'), fields)
    case 'codes':
      return openCodeSource(path)
  }
}

/** Names in a folder; undefined for a file. */
async function look(path: string): Promise<string[] | undefined> {
  try {
    return (await stat(path)).isDirectory() ? (await readdir(path)).sort(byCodeUnit) : undefined
  } catch (cause) {
    const text = `Cannot read the data in ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', text, { path }, { cause })
  }
}

function formatOf(path: string, names: readonly string[] | undefined): SourceFormat {
  if (names === undefined) {
    if (/\.(jsonl|csv)$/i.test(path)) return 'list'
    if (/\.tar$/i.test(path)) return 'tar'
    if (/\.parquet$/i.test(path)) return 'parquet'
    const text = `Expected a folder, or a file .jsonl, .csv, .tar or .parquet, for data, received ${path}`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path })
  }
  if (names.includes(CODE_INDEX_FILE) && names.some((name) => name.endsWith('.safetensors'))) return 'codes'
  const formats = (['tar', 'parquet'] as const).filter((format) =>
    names.some((name) => name.toLowerCase().endsWith(`.${format}`)),
  )
  if (formats.length === 2) {
    const text = `Expected tar or Parquet files in ${path}, found both. Say which by format, or move one kind elsewhere`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path })
  }
  return formats[0] ?? 'list'
}

function shardFiles(path: string, names: readonly string[] | undefined, extension: string): ShardFile[] {
  if (names === undefined) return [{ path, name: basename(path) }]
  const files = names.filter((name) => name.toLowerCase().endsWith(extension))
  if (files.length === 0) {
    const text = `Expected files ${extension} in ${path}, and it has none`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path })
  }
  return files.map((name) => ({ path: join(path, name), name }))
}
