import { join } from 'node:path'
import { contactSheet } from '../data/contact-sheet.ts'
import { type RgbImage, writeFileWhole } from '../data/image.ts'
import { VilgError } from '../errors.ts'
import { checkSignal } from '../native/call.ts'
import { expectInteger, expectNumber, expectString, rejectUnknownKeys } from '../validate.ts'
import type { ProgressStream } from './progress.ts'
import { drawCurves } from './run-curves.ts'
import { type RunCheckpoint, RunFolder } from './run-folder.ts'
import { type LogLine, readLog } from './run-log.ts'
import { RunMonitor } from './run-monitor.ts'
import type { BatchOf, TrainerStep, TrainingLoop } from './training-loop.ts'

/** Pictures to look at while a run goes on. */
export interface RunSamples {
  images: readonly RgbImage[]
  /** Pictures in a row; 8 unless given. */
  columns?: number
  captions?: readonly string[]
}

/**
 * Batches of a run. Where their place is not told by their number alone, `state` gives what says it: JSON, of the place behind the last
 * batch that was given.
 */
export interface RunBatches<Batch> extends AsyncIterable<Batch> {
  state?(): unknown
}

/** How a trainer comes about. */
export interface RunStart<Trainer> {
  /** Makes the model and its trainer, for a run that begins. */
  create(): Promise<Trainer>
  /** Makes both from a checkpoint of the run. */
  resume(checkpoint: string): Promise<Trainer>
}

/** Options of {@link trainRun}. */
export interface RunOptions<
  Step extends TrainerStep,
  Trainer extends TrainingLoop<Step> = TrainingLoop<Step>,
> extends RunStart<Trainer> {
  /** Shown before every line; `training` unless given. */
  title?: string
  /** What decides the run, as JSON. A run goes on with the same only. */
  settings: Record<string, unknown>
  /** Keys of `settings` that say what the data is. */
  dataKeys?: readonly string[]
  /** Go on with other data than the run was begun with; its batches then begin at their beginning. */
  changeData?: boolean
  /** How many steps the whole run has. */
  steps: number
  /**
   * The batches of the run from number `start` on (a step takes as many as the trainer's `accumulate`). They must be the same at
   * every call: then a resumed run does just what an uninterrupted one does. `state` is what the batches said of their state at the
   * checkpoint that the run goes on from.
   */
  batches(start: number, state?: unknown): RunBatches<BatchOf<Step>>
  /** Measures the model every `evaluateEvery` steps and at the end; the numbers go into the log. */
  evaluate?(trainer: Trainer): Promise<object>
  evaluateEvery?: number
  /** Draws `samples-<step>.png` every `sampleEvery` steps and at the end. */
  sample?(trainer: Trainer): Promise<RunSamples>
  sampleEvery?: number
  /** Steps between checkpoints; none unless given. */
  checkpointSteps?: number
  /** Minutes between checkpoints; 10 unless given. */
  checkpointMinutes?: number
  /** Checkpoints to keep; 2 unless given. */
  keep?: number
  /** Pictures of curves: file name and the keys of the step to draw; `{ 'loss.png': ['loss'] }` unless given. */
  curves?: Readonly<Record<string, readonly string[]>>
  /** End after so many minutes, with a checkpoint. */
  minutes?: number
  /** Ends the run after the step in work, with a checkpoint; the promise then rejects with the signal's reason. */
  signal?: AbortSignal
  /** Given the lines of the log as they are written: a step, an evaluation, a checkpoint. What it throws ends the run. */
  onLog?: (line: LogLine) => void
  /** Where progress is shown; standard error unless given, nowhere if false. */
  progress?: ProgressStream | false
  /**
   * Floating-point operations that the device can do in a second (see {@link measureCeilings}): the progress bar then has what share of
   * them the model makes use of.
   */
  peakFlops?: number
}

/** What {@link trainRun} gives. */
export interface RunResult<Trainer> {
  /** The caller disposes of it. */
  trainer: Trainer
  step: number
  /** Whether all steps are done; false where `minutes` ran out. */
  finished: boolean
  /** How long the run took, over all its parts. */
  seconds: number
  /** The numbers of the last evaluation, if there was one. */
  evaluation?: Record<string, unknown>
}

const optionKeys = [
  'create',
  'resume',
  'title',
  'settings',
  'dataKeys',
  'changeData',
  'steps',
  'batches',
  'evaluate',
  'evaluateEvery',
  'sample',
  'sampleEvery',
  'checkpointSteps',
  'checkpointMinutes',
  'keep',
  'curves',
  'minutes',
  'signal',
  'onLog',
  'progress',
  'peakFlops',
] as const satisfies readonly (keyof RunOptions<TrainerStep>)[]

/**
 * Trains in a folder, so that it can be ended at any time, even by pulling the plug, and goes on from its last checkpoint when
 * called again with the same options. In the folder: `options.json`, `log.jsonl` (a line a step, with evaluations between),
 * curves and samples as PNG, `tensorboard/` and `checkpoints/`.
 */
export async function trainRun<Step extends TrainerStep, Trainer extends TrainingLoop<Step>>(
  folder: string,
  options: RunOptions<Step, Trainer>,
): Promise<RunResult<Trainer>> {
  expectString('folder', folder)
  rejectUnknownKeys('trainRun options', options, optionKeys)
  return new Run(folder, options).train()
}

class Run<Step extends TrainerStep, Trainer extends TrainingLoop<Step>> {
  readonly #path: string
  readonly #options: RunOptions<Step, Trainer>
  readonly #title: string
  readonly #steps: number
  readonly #every: { evaluate: number; sample: number; checkpoint: number }
  readonly #checkpointSeconds: number
  readonly #keep: number
  readonly #deadline: number
  readonly #begun = performance.now()
  /** Of earlier parts of the run. */
  #secondsBefore = 0
  #lastCheckpoint = performance.now()
  #lastFlush = 0
  #evaluation: Record<string, unknown> | undefined

  constructor(path: string, options: RunOptions<Step, Trainer>) {
    const every = (name: 'evaluateEvery' | 'sampleEvery' | 'checkpointSteps') =>
      options[name] === undefined ? Infinity : expectInteger(name, options[name], { min: 1 })
    this.#path = path
    this.#options = options
    this.#title = expectString('title', options.title ?? 'training')
    this.#steps = expectInteger('steps', options.steps, { min: 1 })
    this.#every = {
      evaluate: every('evaluateEvery'),
      sample: every('sampleEvery'),
      checkpoint: every('checkpointSteps'),
    }
    this.#checkpointSeconds =
      60 * expectNumber('checkpointMinutes', options.checkpointMinutes ?? 10, { min: 0 })
    this.#keep = expectInteger('keep', options.keep ?? 2, { min: 1 })
    const minutes =
      options.minutes === undefined ? Infinity : expectNumber('minutes', options.minutes, { min: 0 })
    this.#deadline = this.#begun + minutes * 60_000
    if (options.peakFlops !== undefined) expectNumber('peakFlops', options.peakFlops, { min: 1 })
    checkSignal(options.signal)
  }

  async train(): Promise<RunResult<Trainer>> {
    const { signal, settings, dataKeys = [], changeData = false } = this.#options
    signal?.throwIfAborted()
    const options = { ...settings, steps: this.#steps }
    const folder = await RunFolder.open(this.#path, options, { dataKeys, changeData })
    const checkpoint = await folder.latest()
    const trainer =
      checkpoint === undefined ? await this.#options.create() : await this.#options.resume(checkpoint.path)
    try {
      if (checkpoint !== undefined) trainer.lastCheckpoint = checkpoint.path
      await this.#run(folder, trainer, checkpoint)
    } catch (error) {
      await trainer.dispose()
      throw error
    }
    const { step } = trainer
    return {
      trainer,
      step,
      finished: step >= this.#steps,
      seconds: this.#seconds(),
      ...(this.#evaluation === undefined ? {} : { evaluation: this.#evaluation }),
    }
  }

  async #run(folder: RunFolder, trainer: Trainer, checkpoint: RunCheckpoint | undefined): Promise<void> {
    const first = trainer.step
    const { onLog, progress, peakFlops } = this.#options
    const monitor = await RunMonitor.open(folder, first, { title: this.#title, onLog, progress, peakFlops })
    try {
      await this.#recall(folder)
      if (first >= this.#steps) return
      const data = await this.#openBatches(folder, trainer, checkpoint)
      await monitor.begin(folder, first, this.#steps, trainer.notes)
      await this.#trainSteps(folder, trainer, data, monitor)
    } finally {
      await monitor.close()
    }
  }

  /** Takes what earlier parts of the run left in the log. */
  async #recall(folder: RunFolder): Promise<void> {
    for (const { type, at, step, ...rest } of await readLog(folder.log)) {
      if (type === 'checkpoint') this.#secondsBefore = rest.elapsedSeconds as number
      if (type === 'evaluation') this.#evaluation = rest
    }
  }

  async #openBatches(
    folder: RunFolder,
    trainer: Trainer,
    checkpoint: RunCheckpoint | undefined,
  ): Promise<RunBatches<BatchOf<Step>>> {
    const start = trainer.step * trainer.options.accumulate
    const saved = checkpoint === undefined ? { isOther: false } : await folder.dataState(checkpoint)
    const data = this.#options.batches(start, saved.state)
    const isLost = start > 0 && data.state !== undefined && saved.state === undefined && !saved.isOther
    if (!isLost) return data
    const text = `Expected the state of the data in the checkpoint ${checkpoint?.path}, which has none. Begin the run anew`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', text, { path: checkpoint?.path })
  }

  async #trainSteps(
    folder: RunFolder,
    trainer: Trainer,
    data: RunBatches<BatchOf<Step>>,
    monitor: RunMonitor,
  ): Promise<void> {
    const { signal } = this.#options
    const first = trainer.step
    let step = first
    for await (const report of trainer.fit(data, { steps: this.#steps - first })) {
      step = report.step
      monitor.step(report)
      const isLast = step === this.#steps
      const isDue = (every: number) => isLast || step % every === 0
      if (this.#options.evaluate !== undefined && isDue(this.#every.evaluate)) {
        await this.#evaluate(trainer, step, monitor)
      }
      if (this.#options.sample !== undefined && isDue(this.#every.sample)) {
        await this.#sample(trainer, step, monitor)
      }
      const now = performance.now()
      const isEnding = isLast || signal?.aborted === true || now >= this.#deadline
      const isTime = now - this.#lastCheckpoint >= this.#checkpointSeconds * 1000
      if (isEnding || isTime || step % this.#every.checkpoint === 0) {
        await this.#checkpoint(folder, trainer, data, step, monitor)
      } else if (now - this.#lastFlush > 1000) {
        await monitor.flush()
        this.#lastFlush = now
      }
      if (!isEnding) continue
      // only now: an abort while the log was flushed must not end the run without its checkpoint
      signal?.throwIfAborted()
      return
    }
    const text = `Expected batches for ${this.#steps} steps, received those of ${step}`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { steps: this.#steps, step })
  }

  async #evaluate(trainer: Trainer, step: number, monitor: RunMonitor): Promise<void> {
    const begun = performance.now()
    const values = (await this.#options.evaluate!(trainer)) as Record<string, unknown>
    const seconds = (performance.now() - begun) / 1000
    this.#evaluation = { ...values, seconds }
    monitor.evaluation(step, values, seconds)
  }

  async #sample(trainer: Trainer, step: number, monitor: RunMonitor): Promise<void> {
    const { images, columns = 8, captions } = await this.#options.sample!(trainer)
    const file = `samples-${step}.png`
    const tileSize = Math.max(128, images[0]?.width ?? 0) // smaller ones are hard to see
    const sheet = await contactSheet(images, {
      columns,
      tileSize,
      ...(captions === undefined ? {} : { captions }),
    })
    await writeFileWhole(join(this.#path, file), sheet.png)
    monitor.sample(step, file, sheet, captions)
  }

  async #checkpoint(
    folder: RunFolder,
    trainer: Trainer,
    data: RunBatches<BatchOf<Step>>,
    step: number,
    monitor: RunMonitor,
  ): Promise<void> {
    await monitor.checkpoint(step, this.#seconds(), async () => {
      const path = await folder.add(step, this.#keep, async (partial) => {
        await trainer.save(partial)
        if (data.state !== undefined) await folder.writeDataState(partial, data.state())
      })
      trainer.lastCheckpoint = path
      return path
    })
    this.#lastCheckpoint = performance.now()
    this.#lastFlush = this.#lastCheckpoint
    await this.#drawCurves(await readLog(folder.log))
  }

  async #drawCurves(lines: readonly LogLine[]): Promise<void> {
    const curves = this.#options.curves ?? { 'loss.png': ['loss'] }
    for (const [file, keys] of Object.entries(curves)) {
      const png = await drawCurves(lines, keys, `${this.#title}: ${keys.join(', ')}`)
      if (png !== undefined) await writeFileWhole(join(this.#path, file), png)
    }
  }

  #seconds(): number {
    return this.#secondsBefore + (performance.now() - this.#begun) / 1000
  }
}
