import { randomUUID } from 'node:crypto'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { VilgError } from '../errors.ts'

/** Reads a whole UTF-8 file. Errors carry `ERR_VILG_IO`, or `ERR_VILG_CHECKPOINT_FORMAT` for bytes that are no UTF-8. */
export async function readText(path: string): Promise<string> {
  let bytes: Uint8Array
  try {
    bytes = await readFile(path)
  } catch (cause) {
    throw new VilgError(
      'ERR_VILG_IO',
      `Could not read ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    )
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', `Expected UTF-8 text in ${path}`, { path }, { cause })
  }
}

/** Reads a whole UTF-8 file, or `undefined` where there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readText(path)
  } catch (error) {
    if (((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return undefined
    throw error
  }
}

/** Writes beside the file and renames, so that a full disk or a killed process leaves the old file as it was. */
export async function writeTextAtomically(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`
  try {
    await writeFile(draft, text, { flush: true })
    await rename(draft, path)
  } catch (cause) {
    await rm(draft, { force: true }).catch(() => {}) // the first error is the one to tell
    throw new VilgError(
      'ERR_VILG_IO',
      `Could not write ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    )
  }
}

/** Parses a JSON object. Anything else is `ERR_VILG_CHECKPOINT_FORMAT`. */
export function parseJsonObject(text: string, path: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const message = `Expected JSON in ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path }, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', `Expected a JSON object in ${path}`, { path })
  }
  return value as Record<string, unknown>
}

/**
 * The tokens of a vocab.txt, one a line, the line number being the id. ERNIE's files have the id too, after a tab.
 *
 * White space that is no ASCII stays: BERT's Chinese vocabulary has U+2028 as a token.
 */
export function parseVocabulary(text: string, path: string): string[] {
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines.map((line, id) => {
    const [token, given, ...more] = line.replace(/^[ \t\r]+|[ \t\r]+$/g, '').split('\t')
    if (more.length > 0 || (given !== undefined && given !== String(id))) {
      const message = `Expected a token, or a token, a tab and ${id}, in line ${id + 1} of ${path}`
      throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path, line: id + 1 })
    }
    return token!
  })
}
