import { createReadStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { basename, isAbsolute, normalize, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { parse } from 'csv-parse'
import { VilgError } from '../../errors.ts'
import { captionsOf, cleanCaptions, decodeText } from './captions.ts'
import type { BrokenSamples } from './sample.ts'

// a quote that is never closed must not take the rest of a huge file into memory
const maxRecordBytes = 2 ** 20

/** A picture of a folder with its captions; the picture is not read yet. */
export interface ListedFile {
  /** From the folder on, with `/` between folders. */
  file: string
  captions: string[]
}

/** Which fields of a record have the picture and its captions. */
export interface FieldNames {
  /** Of the picture. */
  image?: string | undefined
  /** Of the captions: a string, or an array of strings where the format has arrays. */
  caption?: string | undefined
}

/** Names of the lists that a folder of pictures may have, in the order in which they are looked for. */
export const LIST_NAMES = Object.freeze(['captions.jsonl', 'captions.csv'] as const)

/**
 * Reads a list of pictures with captions: lines of JSON or CSV with a header. Records of one file add up. What cannot be used goes to
 * `broken`, with its line number.
 *
 * @throws ERR_VILG_IO; ERR_VILG_INVALID_ARGUMENT where a CSV file lacks a column
 */
export async function readListFile(
  path: string,
  fields: FieldNames,
  broken: BrokenSamples,
): Promise<ListedFile[]> {
  const byFile = new Map<string, ListedFile>()
  const records = path.toLowerCase().endsWith('.csv') ? csvRecords(path, fields) : jsonRecords(path)
  try {
    for await (const { line, record, reason } of records) {
      const listed = reason === undefined ? listedFile(record, fields) : { reason }
      if ('reason' in listed) broken.add(`${basename(path)}:${line}`, listed.reason)
      else {
        const known = byFile.get(listed.file)
        if (known === undefined) byFile.set(listed.file, listed)
        else known.captions = cleanCaptions([...known.captions, ...listed.captions])
      }
    }
  } catch (cause) {
    if (cause instanceof VilgError) throw cause
    const text = `Cannot read ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', text, { path }, { cause })
  }
  return [...byFile.values()]
}

/** With `/` between folders, so that ids are the same on every system. */
export function portable(path: string): string {
  return path.replaceAll(sep, '/')
}

/** One record of a list, or why it is none. */
type Numbered =
  | { line: number; record: Record<string, unknown>; reason?: undefined }
  | { line: number; record?: undefined; reason: string }

// Latin-1 keeps every byte, so each line is decoded, and found broken, by itself.
async function* jsonRecords(path: string): AsyncGenerator<Numbered> {
  const input = createReadStream(path, 'latin1')
  const lines = createInterface({ input, crlfDelay: Infinity })
  input.once('error', () => lines.close()) // readline itself would wait for ever
  let line = 0
  try {
    for await (const bytes of lines) {
      line++
      const decoded = decodeText(Buffer.from(bytes, 'latin1'))
      if ('reason' in decoded) yield { line, reason: `the line ${decoded.reason}` }
      else if (decoded.text.trim() !== '') yield { line, ...parseRecord(decoded.text) }
    }
    if (input.errored !== null) throw input.errored
  } finally {
    lines.close()
    input.destroy()
  }
}

function parseRecord(text: string): { record: Record<string, unknown> } | { reason: string } {
  try {
    const record: unknown = JSON.parse(text)
    if (typeof record !== 'object' || record === null || Array.isArray(record))
      return { reason: 'the line is not an object' }
    return { record: record as Record<string, unknown> }
  } catch (error) {
    return { reason: `the line is not JSON: ${(error as Error).message}` }
  }
}

async function* csvRecords(path: string, fields: FieldNames): AsyncGenerator<Numbered> {
  const input = createReadStream(path, { start: await byteOrderMarkLength(path) })
  // `encoding: null` gives every field as bytes, which are decoded, and found broken, by themselves.
  const parser = parse({
    encoding: null,
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: maxRecordBytes,
  })
  input.once('error', (error) => parser.destroy(error))
  const rows = input.pipe(parser) as AsyncIterable<{ info: { lines: number }; record: Buffer[] }>
  let header: string[] | undefined
  try {
    for await (const { info, record: cells } of rows) {
      const line = info.lines
      const texts = cells.map((cell) => decodeText(cell))
      const bad = texts.find((text) => 'reason' in text) as { reason: string } | undefined
      const values = texts.map((text) => ('text' in text ? text.text : ''))
      if (header === undefined) {
        if (bad !== undefined) {
          const text = `Expected a header in UTF-8 in ${path}, a field of it ${bad.reason}`
          throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path })
        }
        header = values.map((value) => value.trim())
        checkColumns(path, header, fields)
      } else if (bad !== undefined) yield { line, reason: `a field ${bad.reason}` }
      else if (values.length !== header.length) {
        yield { line, reason: `the record has ${values.length} fields, the header ${header.length}` }
      } else {
        yield { line, record: Object.fromEntries(header.map((name, i) => [name, values[i]])) }
      }
    }
  } catch (error) {
    // what follows an unclosed quote is lost; what came before it counts
    if (!isCsvError(error)) throw error
    yield { line: Number(error.lines ?? 0), reason: `not CSV from here on: ${error.message}` }
  } finally {
    input.destroy()
  }
}

/** The parser knows such a mark too, but gives text and no bytes then. */
async function byteOrderMarkLength(path: string): Promise<number> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(3), 0, 3, 0)
    return bytesRead === 3 && buffer.equals(Buffer.from('\ufeff')) ? 3 : 0
  } finally {
    await file.close()
  }
}

function isCsvError(error: unknown): error is Error & { lines?: unknown } {
  return error instanceof Error && String((error as { code?: unknown }).code).startsWith('CSV_')
}

function checkColumns(path: string, header: readonly string[], { image, caption }: FieldNames): void {
  // a field of CSV is no array, so `texts` is none of them
  const captions = caption === undefined ? ['text', 'caption'] : [caption]
  const missing = [
    ...(header.includes(image ?? 'file') ? [] : [image ?? 'file']),
    ...(captions.some((name) => header.includes(name)) ? [] : [caption ?? 'text']),
  ]
  if (missing.length > 0) throw missingColumns(path, missing, header)
}

/** The error of a table that lacks columns. */
export function missingColumns(
  path: string,
  missing: readonly string[],
  found: readonly string[],
): VilgError {
  const text = `Expected the columns ${missing.join(' and ')} in ${path}, which has ${found.join(', ') || 'none'}. Name its own as image and caption`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path, missing, found })
}

function listedFile(
  record: Readonly<Record<string, unknown>>,
  { image = 'file', caption }: FieldNames,
): ListedFile | { reason: string } {
  const file = record[image]
  if (typeof file !== 'string' || file === '') return { reason: `has no ${image}` }
  const path = portable(normalize(file))
  if (isAbsolute(path) || path.split('/')[0] === '..')
    return { reason: `the file ${file} lies outside the folder` }
  const found = captionsOf(record, caption)
  return 'reason' in found ? found : { file: path, captions: found.captions }
}
