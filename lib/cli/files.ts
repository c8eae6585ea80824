import { extname, join } from 'node:path'
import { readText } from '../read-text.ts'
import type { CliContext } from './context.ts'

const longestName = 60 // characters of a prompt in a file name: 255 bytes are the limit of most systems, and one of ours has up to 3

/** A file name for a text: without what file systems forbid, cut where it is too long. */
export function fileNameOf(text: string): string {
  const cleaned = text
    .normalize('NFC')
    // eslint-disable-next-line no-control-regex -- controls are what file names must not have
    .replace(/[\u0000-\u001f\u007f<>:"/\\|?*\p{Cs}]+/gu, '_')
    .replace(/\s+/g, ' ')
    .trim()
  const name = [...cleaned]
    .slice(0, longestName)
    .join('')
    .replace(/^\.+|[. ]+$/g, '_')
  return name === '' ? '_' : name
}

/** Gives names that nobody had before, a number after those that come again. */
export class UniqueNames {
  readonly #used = new Set<string>()

  /** @param stem the name without its extension */
  next(stem: string): string {
    for (let copy = 1; ; copy++) {
      const name = copy === 1 ? stem : `${stem} (${copy})`
      // file systems of Windows and macOS take letters of either case for the same
      const key = name.toLowerCase()
      if (this.#used.has(key)) continue
      this.#used.add(key)
      return name
    }
  }
}

/** Whether a path given to `--out` means a PNG file; a folder otherwise. */
export function isPngPath(path: string): boolean {
  return extname(path).toLowerCase() === '.png'
}

/** The lines of a text file that are not empty; `-` is standard input. */
export async function readLines({ streams }: CliContext, path: string): Promise<string[]> {
  const text = path === '-' ? await readAll(streams.stdin) : await readText(path)
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/)
  return lines.map((line) => line.trim()).filter((line) => line !== '')
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of stream) parts.push(Buffer.from(part))
  return Buffer.concat(parts).toString('utf8')
}

/** The path of `name` with `.png` in a folder. */
export function pngIn(folder: string, name: string): string {
  return join(folder, `${name}.png`)
}
