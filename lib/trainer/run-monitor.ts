import type { ContactSheet } from '../data/contact-sheet.ts'
import { formatNumber, formatSeconds, Progress, type ProgressStream } from './progress.ts'
import type { RunFolder } from './run-folder.ts'
import { type LogLine, RunLog } from './run-log.ts'
import { EventFile } from './tensorboard/event-file.ts'
import type { TrainerStep } from './training-loop.ts'

/** Whom a run tells what it does. */
export interface RunAudience {
  title: string
  /** Given every line of the log, those of checkpoints once the checkpoint is there. */
  onLog?: ((line: LogLine) => void) | undefined
  /** Where progress is shown; standard error unless given, nowhere if false. */
  progress?: ProgressStream | false | undefined
  /** As in {@link RunOptions.peakFlops}. */
  peakFlops?: number | undefined
}

/** Tells what a run does: to its log, to TensorBoard, to the terminal and to the caller. */
export class RunMonitor {
  readonly #log: RunLog
  readonly #audience: RunAudience
  #events: EventFile | undefined
  #progress: Progress | undefined

  private constructor(log: RunLog, audience: RunAudience) {
    this.#log = log
    this.#audience = audience
  }

  /** Opens the log of a run that goes on after `step`; see {@link RunLog.open}. */
  static async open(folder: RunFolder, step: number, audience: RunAudience): Promise<RunMonitor> {
    return new RunMonitor(await RunLog.open(folder.log, step), audience)
  }

  /** Says that the run goes on after step `first`, and what else there is to say of it. */
  async begin(folder: RunFolder, first: number, steps: number, notes: readonly string[]): Promise<void> {
    this.#events = await EventFile.create(folder.tensorBoard, first + 1)
    const at = new Date().toISOString()
    this.#add({
      type: first === 0 ? 'start' : 'resume',
      step: first,
      at,
      steps,
      ...(notes.length === 0 ? {} : { notes }),
    })
    const { title, progress = process.stderr, peakFlops } = this.#audience
    if (progress === false) return
    this.#progress = new Progress(progress, title, first, steps, peakFlops)
    if (first > 0) this.#progress.note(`goes on after step ${first} of ${steps}`)
    for (const note of notes) this.#progress.note(note)
  }

  /** Tells of a step. */
  step(report: TrainerStep): void {
    this.#add({ type: 'step', ...report })
    const { step, ...values } = report
    this.#events?.scalars(step, numbersOf('training', values))
    this.#progress?.step({ ...report })
  }

  /** Tells what was measured on held-out data after a step. */
  evaluation(step: number, values: Record<string, unknown>, seconds: number): void {
    this.#add({ type: 'evaluation', step, ...values, seconds })
    this.#events?.scalars(step, numbersOf('held out', values))
    const shown = Object.entries(values).map(
      ([key, value]) => `${key} ${typeof value === 'number' ? formatNumber(value) : JSON.stringify(value)}`,
    )
    this.#progress?.note(`step ${step}, held out: ${shown.join(', ')} (${formatSeconds(seconds)})`)
  }

  /** Tells of samples, which are in the run's `file`; their captions go into the log where the sheet has numbers in their place. */
  sample(step: number, file: string, sheet: ContactSheet, captions: readonly string[] | undefined): void {
    const list = captions !== undefined && sheet.numbered ? { captions } : {}
    this.#add({ type: 'sample', step, file, ...list })
    this.#events?.image(step, 'samples', sheet)
  }

  /**
   * Tells of a checkpoint. The log has it, on the disk, before `write` makes it: then the log never lacks what lies before a checkpoint,
   * and what it has beyond is cut off when the run goes on. Everybody else is told when it is there.
   *
   * @param write gives the checkpoint's path
   */
  async checkpoint(step: number, elapsedSeconds: number, write: () => Promise<string>): Promise<void> {
    const line: LogLine = { type: 'checkpoint', step, at: new Date().toISOString(), elapsedSeconds }
    this.#log.add(line)
    await this.#log.flush({ sync: true })
    const path = await write()
    this.#audience.onLog?.(line)
    this.#progress?.note(`checkpoint ${path}`)
    await this.#events?.flush()
  }

  /** Writes out what was told so far. */
  async flush(): Promise<void> {
    await this.#log.flush()
    await this.#events?.flush()
  }

  /** Ends the telling. */
  async close(): Promise<void> {
    this.#progress?.stop()
    try {
      await this.#log.close()
    } finally {
      await this.#events?.close()
    }
  }

  #add(line: LogLine): void {
    this.#log.add(line)
    this.#audience.onLog?.(line)
  }
}

/** The numbers among values, named as TensorBoard groups them. */
function numbersOf(group: string, values: object): Record<string, number> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) =>
      typeof value === 'number' ? [[`${group}/${key}`, value]] : [],
    ),
  )
}
