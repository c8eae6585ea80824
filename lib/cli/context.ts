import { SingleBar } from 'cli-progress'

/** What a command writes to and reads from; the process itself has all of it. */
export interface CliStreams {
  stdin: NodeJS.ReadableStream
  stdout: NodeJS.WritableStream
  stderr: NodeJS.WritableStream & { isTTY?: boolean }
}

/** What every command is given. */
export interface CliContext {
  streams: CliStreams
  /** Aborts at Ctrl-C and SIGTERM. */
  signal: AbortSignal
  /** What the process ends with where nothing was thrown. */
  exitCode: number
}

/** Writes a line for people, or for programs, to standard output. */
export function print({ streams }: CliContext, line: string): void {
  streams.stdout.write(`${line}\n`)
}

/** Writes the one JSON object of `--json` to standard output. */
export function printJson(context: CliContext, value: object): void {
  print(context, JSON.stringify(value, null, 2))
}

/** Writes a line about the work itself to standard error. */
export function note({ streams }: CliContext, line: string): void {
  streams.stderr.write(`${line}\n`)
}

/** A bar on standard error where that is a terminal, nothing elsewhere. Fractions may come in any order; the bar never falls. */
export class CliProgress {
  readonly #bar: SingleBar | undefined
  #fraction = 0

  constructor({ streams }: CliContext, title: string) {
    if (streams.stderr.isTTY !== true) return
    const format = `${title} {bar} {percentage}% {duration_formatted} {what}`
    this.#bar = new SingleBar({
      format,
      stream: streams.stderr,
      hideCursor: null,
      barsize: 24,
      clearOnComplete: true,
    })
    this.#bar.start(1000, 0, { what: '' })
  }

  /** @param fraction the share of all work that is done, from 0 to 1 */
  update(fraction: number, what = ''): void {
    this.#fraction = Math.max(this.#fraction, fraction)
    this.#bar?.update(Math.round(1000 * this.#fraction), { what })
  }

  /** Takes the bar away. */
  stop(): void {
    this.#bar?.stop()
  }
}
