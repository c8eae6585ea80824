import { appendFileSync, writeFileSync } from 'node:fs'

/** What happens, on the terminal and with every line of every process in a file, at once: the run may be ended at any time. */
export class Log {
  readonly #file: string
  readonly #begin = performance.now()

  constructor(file: string) {
    this.#file = file
    writeFileSync(file, '')
  }

  /** To the terminal and the file, with the seconds since the beginning. */
  say(text: string): void {
    const seconds = ((performance.now() - this.#begin) / 1000).toFixed(0).padStart(4)
    process.stderr.write(`[${seconds} s] ${text}\n`)
    appendFileSync(this.#file, `[${seconds} s] ${text}\n`)
  }

  /** To the file. */
  keep(who: string, line: string): void {
    appendFileSync(this.#file, `${who}| ${line}\n`)
  }
}
