import { readFile } from 'node:fs/promises'
import { VilgError } from './errors.ts'

/** The text of a UTF-8 file; ERR_VILG_IO with the system's reason where it cannot be read. */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new VilgError(
      'ERR_VILG_IO',
      `Cannot read ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    )
  }
}
