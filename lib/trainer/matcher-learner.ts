import type { NativeComparison, NativeMatcherTrainer } from '../../types/native-models.d.ts'
import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { matcherFlops } from '../model/flops.ts'
import type { MatcherConfig } from '../model/matcher-config.ts'
import { outOfRange } from '../validate.ts'
import { ignoreStopped } from './generator-learner.ts'
import { addScaled, type Learner, type LossTerms, type StepSize } from './learner.ts'
import { checkPairs, countPairs, type PairBatch } from './pair-batch.ts'

/** What a step of a matcher came to; means over its micro-batches, the pairs of each compared with each other. `loss` is InfoNCE, in nats. */
export interface MatcherTerms extends LossTerms {
  /** The share of pictures of the batch that are nearer to their own text than to any other, in [0, 1]. */
  imageToTextAccuracy: number
  /** The share of texts that are nearer to their own picture than to any other. */
  textToImageAccuracy: number
  /** What cosines were divided by. */
  temperature: number
}

/** What {@link Trainer.evaluate} gives for a matcher: all pairs of the data compared with each other. */
export interface MatcherEvaluation extends MatcherTerms {
  pairs: number
}

/** What a learner needs of a matcher. */
export interface TrainableMatcher {
  readonly config: Readonly<Required<MatcherConfig>>
  compare(batch: PairBatch, options: { signal?: AbortSignal }): Promise<NativeComparison>
}

/** Trains both towers of a matcher, each pair of a batch against the others. */
export class MatcherLearner implements Learner<PairBatch, MatcherTerms, MatcherEvaluation> {
  readonly kind = 'matcher'
  readonly native: NativeMatcherTrainer
  readonly #matcher: TrainableMatcher

  constructor(native: NativeMatcherTrainer, matcher: TrainableMatcher) {
    this.native = native
    this.#matcher = matcher
  }

  check(name: string, batch: unknown): void {
    checkPairs(name, batch, this.#matcher.config)
    if (this.#pairs(batch as PairBatch) > 1) return
    // a pair alone has a loss of 0, whatever the weights
    throw outOfRange(name, 'at least two pairs, which are compared with each other', batch)
  }

  size(batches: readonly PairBatch[]): StepSize {
    const { textLength, grid } = this.#matcher.config
    const pairs = batches.reduce((sum, batch) => sum + this.#pairs(batch), 0)
    return {
      pairs,
      tokens: pairs * (textLength + grid ** 2),
      // each product once forward, and twice backward: by the input and by the weights
      flops: 3 * pairs * matcherFlops(this.#matcher.config),
    }
  }

  async begin(): Promise<void> {}

  async accumulate(batches: readonly PairBatch[], control: TaskControl): Promise<MatcherTerms> {
    const all = batches.reduce((sum, batch) => sum + this.#pairs(batch), 0)
    const terms: MatcherTerms = {
      loss: 0,
      imageToTextAccuracy: 0,
      textToImageAccuracy: 0,
      temperature: 0,
    }
    for (const batch of batches) {
      const pairs = this.#pairs(batch)
      const { text, textValid, image } = batch
      const share = pairs / all
      addScaled(terms, await this.native.accumulate(text, textValid, image, pairs, share, control), share)
    }
    return terms
  }

  async clear(batches: readonly PairBatch[], stop: StopFlag): Promise<void> {
    stop.raise()
    await this.accumulate(batches.slice(0, 1), { stop }).catch(ignoreStopped)
  }

  async finish(): Promise<Partial<MatcherTerms>> {
    return {}
  }

  async evaluate(data: AsyncIterable<PairBatch>, signal: AbortSignal): Promise<MatcherEvaluation> {
    const batches: PairBatch[] = []
    for await (const batch of data) {
      checkPairs('batch', batch, this.#matcher.config)
      batches.push(batch)
    }
    if (batches.length === 0) throw outOfRange('data', 'at least one batch', 0)
    const together = {
      text: joined(batches.map(({ text }) => text)),
      textValid: joined(batches.map(({ textValid }) => textValid)),
      image: joined(batches.map(({ image }) => image)),
    }
    return { ...(await this.#matcher.compare(together, { signal })), pairs: this.#pairs(together) }
  }

  #pairs(batch: PairBatch): number {
    return countPairs(batch, this.#matcher.config)
  }
}

function joined<Rows extends Int32Array | Uint8Array>(parts: readonly Rows[]): Rows {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const all = new (parts[0]!.constructor as new (length: number) => Rows)(length)
  let at = 0
  for (const part of parts) {
    all.set(part, at)
    at += part.length
  }
  return all
}
