import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, extname, join, relative } from 'node:path'
import { VilgError } from '../../errors.ts'
import { expectString } from '../../validate.ts'
import { captionLines } from './captions.ts'
import { type FieldNames, LIST_NAMES, type ListedFile, portable, readListFile } from './list-file.ts'
import { BrokenSamples, IMAGE_EXTENSIONS, MAX_CAPTION_BYTES } from './sample.ts'

/** The pictures of a folder with their captions, and what was left out. */
export interface FolderList {
  folder: string
  files: ListedFile[]
  broken: BrokenSamples
}

/**
 * Finds pictures with their captions, without reading the pictures.
 *
 * `path` is a list (`.jsonl` or `.csv`, with files relative to its folder) or a folder. A folder with one of {@link LIST_NAMES} is read by
 * that list. Any other is searched with all its subfolders for pictures that have a `.txt` file of the same name beside them, one
 * caption a line.
 *
 * @throws ERR_VILG_IO
 */
export async function listPictures(path: string, fields: FieldNames = {}): Promise<FolderList> {
  expectString('path', path)
  const broken = new BrokenSamples()
  if (await isFile(path)) {
    const files = await readListFile(path, fields, broken)
    return { folder: dirname(path), files, broken }
  }
  const names = await fileNames(path)
  const list = LIST_NAMES.find((name) => names.includes(name))
  if (list === undefined) return { folder: path, files: await withTexts(path, names, broken), broken }
  return { folder: path, files: await readListFile(join(path, list), fields, broken), broken }
}

async function isFile(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() === true
}

/** All files below a folder, from the folder on. By code unit, not by the locale, so that every machine has the same order. */
async function fileNames(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    const files = entries.filter((entry) => !entry.isDirectory())
    return files
      .map((entry) => portable(relative(folder, join(entry.parentPath, entry.name))))
      .sort(byCodeUnit)
  } catch (cause) {
    const text = `Cannot read the folder ${folder}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', text, { folder }, { cause })
  }
}

async function withTexts(
  folder: string,
  names: readonly string[],
  broken: BrokenSamples,
): Promise<ListedFile[]> {
  const known = new Set(names)
  const files: ListedFile[] = []
  for (const file of names) {
    const extension = extname(file)
    if (!IMAGE_EXTENSIONS.has(extension.toLowerCase())) continue
    const textFile = `${file.slice(0, -extension.length)}.txt`
    if (!known.has(textFile)) {
      broken.add(file, `there is no ${textFile} beside it`)
      continue
    }
    const found = await readCaptions(join(folder, textFile))
    if ('reason' in found) broken.add(file, `${textFile} ${found.reason}`)
    else files.push({ file, captions: found.captions })
  }
  return files
}

async function readCaptions(path: string): Promise<{ captions: string[] } | { reason: string }> {
  try {
    const { size } = await stat(path)
    if (size > MAX_CAPTION_BYTES)
      return { reason: `has ${size} bytes, at most ${MAX_CAPTION_BYTES} are read` }
    return captionLines(await readFile(path))
  } catch (cause) {
    const text = `Cannot read ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', text, { path }, { cause })
  }
}

/** Orders strings by their code units. */
export function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
