import { type FileHandle, open, readFile, truncate } from 'node:fs/promises'
import { VilgError } from '../errors.ts'

/** One line of a run's log. `type` says what it tells of; the rest are numbers and texts, by name. */
export interface LogLine {
  type: 'start' | 'resume' | 'step' | 'evaluation' | 'sample' | 'checkpoint' | 'end'
  step: number
  [key: string]: unknown
}

/** A log of JSON lines that is only ever appended to, but for its end after the last checkpoint. */
export class RunLog {
  readonly path: string
  readonly #file: FileHandle
  #pending = ''

  private constructor(path: string, file: FileHandle) {
    this.path = path
    this.#file = file
  }

  /**
   * Opens the log at `path`, or makes it. Lines of steps after `step` are cut off, as is a last line that was not finished: the
   * run goes on from that step, and does the later ones again.
   */
  static async open(path: string, step: number): Promise<RunLog> {
    try {
      const end = await endOf(path, step)
      if (end !== undefined) await truncate(path, end)
      return new RunLog(path, await open(path, 'a'))
    } catch (cause) {
      throw ioError(path, cause)
    }
  }

  /** Adds a line. It is in the file after the next `flush`. */
  add(line: LogLine): void {
    this.#pending += `${JSON.stringify(line)}\n`
  }

  /** Writes the lines out, to the disk itself where `sync` is true. */
  async flush({ sync = false }: { sync?: boolean } = {}): Promise<void> {
    const text = this.#pending
    this.#pending = ''
    try {
      if (text !== '') await this.#file.appendFile(text)
      if (sync) await this.#file.datasync()
    } catch (cause) {
      throw ioError(this.path, cause)
    }
  }

  /** Writes the lines out and closes the file. */
  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this.#file.close()
    }
  }
}

/** The lines of a log. An unfinished last line is left out. */
export async function readLog(path: string): Promise<LogLine[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    throw ioError(path, cause)
  }
  return wholeLines(text).map((line) => parse(line, path))
}

/** How many bytes of the log to keep, or undefined where there is none. */
async function endOf(path: string, step: number): Promise<number | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  let end = 0
  for (const line of wholeLines(text)) {
    if (parse(line, path).step > step) break
    end += Buffer.byteLength(line) + 1
  }
  return end
}

function wholeLines(text: string): string[] {
  return text.split('\n').slice(0, -1)
}

function parse(line: string, path: string): LogLine {
  try {
    return JSON.parse(line) as LogLine
  } catch (cause) {
    const text = `Expected lines of JSON in ${path}, received ${line.slice(0, 60)}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', text, { path }, { cause })
  }
}

function ioError(path: string, cause: unknown): unknown {
  if (cause instanceof VilgError) return cause
  const text = `Could not write or read the log ${path}: ${(cause as Error).message}`
  return new VilgError('ERR_VILG_IO', text, { path }, { cause })
}
