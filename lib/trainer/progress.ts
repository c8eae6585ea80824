import { SingleBar } from 'cli-progress'

/** Where progress is shown; `isTTY` decides between a bar and lines. */
export type ProgressStream = NodeJS.WritableStream & { isTTY?: boolean }

/** What is shown of a step. */
export interface ProgressValues {
  step: number
  loss: number
  learningRate: number
  gradientNorm: number
  tokensPerSecond: number
  flopsPerSecond: number
  [key: string]: unknown
}

const lineSeconds = 30
const shownApart = [
  'step',
  'loss',
  'learningRate',
  'gradientNorm',
  'tokensPerSecond',
  'seconds',
  'pairsPerSecond',
  'flopsPerSecond',
]

/** A bar on a terminal; elsewhere (a file, a pipe) a line every half minute. */
export class Progress {
  readonly #stream: ProgressStream
  readonly #title: string
  readonly #total: number
  readonly #first: number
  readonly #peakFlops: number | undefined
  readonly #bar: SingleBar | undefined
  readonly #begun = performance.now()
  #lastLine = -Infinity

  /**
   * @param first the steps that were done before
   * @param peakFlops what the device can do in a second, to show how much of it the model uses
   */
  constructor(stream: ProgressStream, title: string, first: number, total: number, peakFlops?: number) {
    this.#stream = stream
    this.#title = title
    this.#first = first
    this.#peakFlops = peakFlops
    this.#total = total
    if (stream.isTTY !== true) return
    const format = `${title} {bar} {percentage}% {value}/{total} loss {loss} {rate} {left} left`
    this.#bar = new SingleBar({ format, stream, hideCursor: null, barsize: 24, etaBuffer: 50 })
    this.#bar.start(total, first, { loss: '-', rate: '-', left: '-' })
  }

  /** Shows a step. */
  step(values: ProgressValues): void {
    const rate = this.#rate(values)
    const left = formatSeconds(this.#secondsLeft(values.step))
    if (this.#bar !== undefined) {
      this.#bar.update(values.step, { loss: values.loss.toFixed(4), rate, left })
      return
    }
    const now = performance.now()
    if (now - this.#lastLine < lineSeconds * 1000 && values.step !== this.#total) return
    this.#lastLine = now
    const percent = ((100 * values.step) / this.#total).toFixed(1)
    const terms = Object.entries(values)
      .filter(([key, value]) => typeof value === 'number' && !shownApart.includes(key))
      .map(([key, value]) => `${key} ${formatNumber(value as number)}`)
    this.#write(
      `step ${values.step}/${this.#total} (${percent} %) loss ${formatNumber(values.loss)} (${terms.join(', ')}), ` +
        `learning rate ${values.learningRate.toExponential(2)}, gradient norm ${formatNumber(values.gradientNorm)}, ` +
        `${rate}, ${left} left`,
    )
  }

  /** Shows a line of text. */
  note(text: string): void {
    // A bar redraws itself over its line; what is written in between would be overwritten in part.
    this.#bar?.stop()
    this.#write(text)
    if (this.#bar !== undefined) {
      const value = this.#bar.getProgress() * this.#total
      this.#bar.start(this.#total, Math.round(value), { loss: '-', rate: '-', left: '-' })
    }
  }

  /** Leaves the bar as it is. */
  stop(): void {
    this.#bar?.stop()
  }

  #rate({ tokensPerSecond, flopsPerSecond }: ProgressValues): string {
    const tokens = `${formatCount(tokensPerSecond)} tokens/s`
    if (this.#peakFlops === undefined) return tokens
    return `${tokens}, ${((100 * flopsPerSecond) / this.#peakFlops).toFixed(0)} % of peak`
  }

  #write(text: string): void {
    this.#stream.write(`${this.#title}: ${text}\n`)
  }

  #secondsLeft(step: number): number {
    const done = step - this.#first
    return ((performance.now() - this.#begun) / 1000 / done) * (this.#total - step)
  }
}

/** `1234567` as `1.2 M`. */
function formatCount(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`
  return value >= 1e4 ? `${Math.round(value / 1e3)} k` : String(Math.round(value))
}

/** Four digits. */
export function formatNumber(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)))
}

/** `3 h 12 min`, `4 min`, `12 s`. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?'
  const minutes = Math.round(seconds / 60)
  if (seconds < 90) return `${Math.round(seconds)} s`
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}
