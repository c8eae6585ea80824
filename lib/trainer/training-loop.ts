import type { StopFlag } from '../../types/native.d.ts'
import { VilgError } from '../errors.ts'
import { stopped } from '../native/binding.ts'
import { checkSignal } from '../native/call.ts'
import { Lifetime } from '../native/lifetime.ts'
import { expectInteger, expectString, rejectUnknownKeys, typeMismatch } from '../validate.ts'
import { type CheckpointHeader, writeCheckpoint } from './checkpoint.ts'
import type { GeneratorBatch, GeneratorEvaluation, GeneratorTerms } from './generator-learner.ts'
import type { PairBatch } from './pair-batch.ts'
import type { DvaeTerms } from './dvae-learner.ts'
import type { ImageTokenizerTerms } from './image-tokenizer-learner.ts'
import type { Learner, LossTerms } from './learner.ts'
import type { MatcherEvaluation, MatcherTerms } from './matcher-learner.ts'
import type { ResolvedTrainerOptions, TargetKind } from './options.ts'
import type { ImageTokenizerBatch, ImageTokenizerEvaluation } from './picture-learner.ts'
import { learningRateAt } from './schedule.ts'

/** What is said of every step. */
export interface StepReport {
  /** Number of the step, from 1. */
  step: number
  learningRate: number
  /** Euclidean norm of the whole gradient, before clipping. */
  gradientNorm: number
  /** How long the step took, without the wait for its data. */
  seconds: number
  pairsPerSecond: number
  /** Of all streams, PAD and both directions included. */
  tokensPerSecond: number
  /** Floating-point operations of the model's products, forward and backward, in a second. */
  flopsPerSecond: number
}

/** A step of a generator's training. */
export type GeneratorStep = StepReport & GeneratorTerms
/** A step of an image tokenizer's training. */
export type ImageTokenizerStep = StepReport & ImageTokenizerTerms
/** A step of a dvae's training. */
export type DvaeStep = StepReport & DvaeTerms
/** A step of a matcher's training. */
export type MatcherStep = StepReport & MatcherTerms
/** A step of any training. */
export type TrainerStep = GeneratorStep | ImageTokenizerStep | DvaeStep | MatcherStep

/** Options of {@link Trainer.fit}. */
export interface FitOptions {
  /** How many steps to take; until the data ends unless given. */
  steps?: number
  /** Ends the training; what was gathered for the step in work is dropped. */
  signal?: AbortSignal
}

/** What a trainer takes and gives, by the kind of its step. */
interface Kinds {
  generator: { batch: GeneratorBatch; terms: GeneratorTerms; evaluation: GeneratorEvaluation }
  'image-tokenizer': {
    batch: ImageTokenizerBatch
    terms: ImageTokenizerTerms
    evaluation: ImageTokenizerEvaluation
  }
  dvae: { batch: ImageTokenizerBatch; terms: DvaeTerms; evaluation: ImageTokenizerEvaluation }
  matcher: { batch: PairBatch; terms: MatcherTerms; evaluation: MatcherEvaluation }
}
type KindOf<Step> = Step extends DvaeTerms
  ? 'dvae'
  : Step extends ImageTokenizerTerms
    ? 'image-tokenizer'
    : Step extends MatcherTerms
      ? 'matcher'
      : 'generator'
/** The batches of a trainer with steps of this type. */
export type BatchOf<Step> = Kinds[KindOf<Step>]['batch']
/** What such a trainer's `evaluate` gives. */
export type EvaluationOf<Step> = Kinds[KindOf<Step>]['evaluation']

/** What a trainer needs of its target once it is made. */
export interface Disposable {
  readonly disposed: boolean
  dispose(): Promise<void>
}

/** Internal: what a trainer is made of. */
export interface TrainerParts<Step, Target extends Disposable = Disposable> {
  target: Target
  learner: Learner<BatchOf<Step>, LossTerms, EvaluationOf<Step>>
  options: ResolvedTrainerOptions
  newStopFlag: () => StopFlag
  model: Record<string, unknown>
  /** Set where the trainer has to dispose of the target too. */
  owned: boolean
  /** What a run shall say of the training at its start. */
  notes?: readonly string[]
  /** Has the target dispose of the trainer first; gives a function that ends this. */
  adopt?(trainer: Disposable): () => void
}

/**
 * What the trainers of all kinds of targets share; {@link Trainer} makes one.
 *
 * A step is all or nothing: one that was aborted, or whose loss or gradient is not finite, leaves everything as it was. Calls
 * wait for each other, so `save` in the middle of `fit` saves what is between two steps.
 */
export class TrainingLoop<Step extends TrainerStep, Target extends Disposable = Disposable> {
  readonly #life: Lifetime
  readonly #parts: TrainerParts<Step, Target>
  readonly #release: (() => void) | undefined
  #tail: Promise<unknown> = Promise.resolve()
  #lastLoss: number | undefined
  /** @internal The newest checkpoint that this trainer wrote or came from, for messages. */
  lastCheckpoint: string | undefined

  /** @internal */
  constructor(parts: TrainerParts<Step, Target>, lastLoss?: number) {
    this.#parts = parts
    this.#lastLoss = lastLoss
    this.#life = new Lifetime('Trainer', this)
    this.#release = parts.adopt?.(this)
  }

  /** What is trained. Of a resumed trainer, `dispose` disposes of it too. */
  get target(): Target {
    return this.#parts.target
  }

  /** The kind of the target. */
  get kind(): TargetKind {
    return this.#parts.learner.kind
  }

  /** @internal What a run says at its start. */
  get notes(): readonly string[] {
    return this.#parts.notes ?? []
  }

  /** The options in force, defaults included. */
  get options(): Readonly<ResolvedTrainerOptions> {
    return this.#parts.options
  }

  /** Updates so far, those of earlier runs included. */
  get step(): number {
    this.#life.check()
    return this.#parts.learner.native.steps
  }

  /** True from the moment dispose() was called. */
  get disposed(): boolean {
    return this.#life.disposed
  }

  /**
   * Trains, one step for each `options.accumulate` batches, until `steps` are done or the data ends (batches too few for a step
   * are left out then). Yields after every step; nothing runs while the caller does not ask for the next.
   *
   * @throws `ERR_VILG_DIVERGED` where the loss or the gradient of a step is not finite
   */
  async *fit(
    data: AsyncIterable<BatchOf<Step>>,
    options: FitOptions = {},
  ): AsyncGenerator<Step, void, undefined> {
    rejectUnknownKeys('fit options', options, ['steps', 'signal'])
    const steps = options.steps === undefined ? Infinity : expectInteger('steps', options.steps, { min: 0 })
    const { signal } = options
    checkSignal(signal)
    this.#life.check()
    checkIterable(data)
    const batches = data[Symbol.asyncIterator]()
    const { accumulate } = this.#parts.options
    try {
      for (let done = 0; done < steps; done++) {
        signal?.throwIfAborted()
        const micro: BatchOf<Step>[] = []
        while (micro.length < accumulate) {
          const next = await batches.next()
          if (next.done === true) return
          this.#parts.learner.check(accumulate === 1 ? 'batch' : `batch ${micro.length + 1}`, next.value)
          micro.push(next.value)
        }
        yield await this.#queue((inner) => this.#step(micro, inner), signal)
      }
    } finally {
      await batches.return?.()
    }
  }

  /** Measures the target on data that it is not trained on, all of it. */
  async evaluate(
    data: AsyncIterable<BatchOf<Step>>,
    options: { signal?: AbortSignal } = {},
  ): Promise<EvaluationOf<Step>> {
    rejectUnknownKeys('evaluate options', options, ['signal'])
    checkSignal(options.signal)
    checkIterable(data)
    return this.#queue((signal) => this.#parts.learner.evaluate(data, signal), options.signal)
  }

  /**
   * Writes all that a run needs to go on: weights, moments, counters, options. `folder` may have an older checkpoint, which is
   * replaced at once or, should anything fail, not at all.
   */
  async save(folder: string): Promise<void> {
    expectString('folder', folder)
    const { learner, model, options } = this.#parts
    await this.#queue(async () => {
      const header: CheckpointHeader = { kind: learner.kind, model, options, step: learner.native.steps }
      if (this.#lastLoss !== undefined) header.lastLoss = this.#lastLoss
      await writeCheckpoint(folder, header, (path) => learner.native.saveState(path))
      this.lastCheckpoint = folder
    })
  }

  /**
   * Ends the trainer; a step in work is dropped. The target lives on, unless `resume` made it. Disposing of the target ends its
   * trainers first.
   */
  dispose(): Promise<void> {
    return this.#life.dispose(async () => {
      this.#release?.() // or the target would wait for this very disposal
      this.#parts.learner.native.dispose()
      // a target that is being disposed of waits for this trainer, which must not wait for it then
      if (this.#parts.owned && !this.#parts.target.disposed) await this.#parts.target.dispose()
    })
  }

  /** The same as dispose(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  #queue<T>(work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const run = () => this.#life.run(work, signal)
    const result = this.#tail.then(run, run)
    this.#tail = result.catch(() => {}) // the next call does not care how this one ended
    return result
  }

  async #step(batches: readonly BatchOf<Step>[], signal: AbortSignal): Promise<Step> {
    const { learner, options, newStopFlag } = this.#parts
    const begun = performance.now()
    const before = learner.native.steps
    const stop = newStopFlag()
    const raise = () => stop.raise()
    signal.addEventListener('abort', raise, { once: true })
    let terms: LossTerms
    try {
      if (before === 0) await learner.begin(batches, { stop })
      terms = await learner.accumulate(batches, { stop })
    } catch (error) {
      if (error === stopped) signal.throwIfAborted()
      throw error
    } finally {
      signal.removeEventListener('abort', raise)
    }
    if (!Number.isFinite(terms.loss)) {
      await learner.clear(batches, stop)
      throw this.#diverged(before + 1, 'loss', terms.loss)
    }
    const learningRate = learningRateAt(before, {
      ...options,
      totalSteps: options.totalSteps ?? 0,
      minLearningRate: options.minLearningRate ?? 0,
    })
    const { gradientNorm, applied } = await learner.native.apply(learningRate)
    if (!applied) throw this.#diverged(before + 1, 'gradient norm', gradientNorm)
    const step = learner.native.steps
    const extra = await learner.finish(step)
    this.#lastLoss = terms.loss
    const seconds = (performance.now() - begun) / 1000
    const { pairs, tokens, flops } = learner.size(batches)
    return {
      step,
      ...terms,
      ...extra,
      learningRate,
      gradientNorm,
      seconds,
      pairsPerSecond: pairs / seconds,
      tokensPerSecond: tokens / seconds,
      flopsPerSecond: flops / seconds,
    } as unknown as Step
  }

  #diverged(step: number, what: string, value: number): VilgError {
    const last =
      this.#lastLoss === undefined ? 'there was no loss before it' : `the last loss was ${this.#lastLoss}`
    const checkpoint =
      this.lastCheckpoint === undefined
        ? 'There is no checkpoint'
        : `The last checkpoint is ${this.lastCheckpoint}`
    const text =
      `Expected a finite ${what} in step ${step}, received ${value}; ${last}. ${checkpoint}; the step was dropped. ` +
      'Try a lower learningRate, a longer warmupSteps or a smaller clipNorm'
    return new VilgError('ERR_VILG_DIVERGED', text, {
      step,
      lastLoss: this.#lastLoss,
      checkpoint: this.lastCheckpoint,
    })
  }
}

function checkIterable(data: unknown): void {
  if (typeof (data as AsyncIterable<unknown> | undefined)?.[Symbol.asyncIterator] !== 'function') {
    throw typeMismatch('data', 'an async iterable of batches', data)
  }
}
