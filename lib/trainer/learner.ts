import type { NativeOptimizerOptions } from '../../types/native-models.d.ts'
import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import type { ResolvedTrainerOptions, TargetKind } from './options.ts'

/** What every native trainer has beside its way to take batches. */
export interface NativeTrainerCore {
  readonly steps: number
  apply(learningRate: number, control?: TaskControl): Promise<{ gradientNorm: number; applied: boolean }>
  saveState(path: string, control?: TaskControl): Promise<void>
  loadState(path: string, control?: TaskControl): Promise<void>
  dispose(): void
}

/** The losses of one step, each the mean over all its micro-batches. */
export interface LossTerms {
  /** The weighted sum that is trained on. */
  loss: number
}

/** How much work a step was. */
export interface StepSize {
  pairs: number
  tokens: number
  /** Floating-point operations of the model's products, forward and backward. */
  flops: number
}

/**
 * One kind of target as {@link Trainer} sees it: what a batch is, what its losses are, how they are measured on held-out data.
 * The trainer does the rest, which all kinds share.
 */
export interface Learner<Batch, Terms extends LossTerms, Evaluation> {
  readonly kind: TargetKind
  readonly native: NativeTrainerCore
  /** Throws unless `batch` is one. */
  check(name: string, batch: unknown): void
  size(batches: readonly Batch[]): StepSize
  /** Whatever comes before the first step of all. */
  begin(batches: readonly Batch[], control: TaskControl): Promise<void>
  /**
   * Gathers the gradient of one step, its micro-batches counting as one batch. Where it rejects, or `stop` was raised, the
   * gradient is zero again.
   */
  accumulate(batches: readonly Batch[], control: TaskControl): Promise<Terms>
  /** Throws the gradient away. */
  clear(batches: readonly Batch[], stop: StopFlag): Promise<void>
  /** Whatever comes after the update that was number `step`, from 1. */
  finish(step: number): Promise<Partial<Terms>>
  /** Measures without training. */
  evaluate(data: AsyncIterable<Batch>, signal: AbortSignal): Promise<Evaluation>
}

/** The options of a native optimizer. */
export function optimizerOptions(options: ResolvedTrainerOptions): NativeOptimizerOptions {
  return {
    beta1: options.betas[0],
    beta2: options.betas[1],
    epsilon: options.epsilon,
    weightDecay: options.weightDecay,
    clipNorm: options.clipNorm,
    groups: options.groups.map(({ weights, ...rest }) => ({ weights: [...weights], ...rest })),
    compute: options.precision,
    recompute: options.recompute,
  }
}

/** Adds `scale` times the numbers of `terms` to those of `sums`. */
export function addScaled<Terms extends object>(sums: Terms, terms: Terms, scale: number): void {
  for (const key of Object.keys(terms) as (keyof Terms)[]) {
    sums[key] = (((sums[key] as number) ?? 0) + (terms[key] as number) * scale) as Terms[typeof key]
  }
}
