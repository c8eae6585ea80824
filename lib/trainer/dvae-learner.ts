import type { NativeDvaeTrainer } from '../../types/native-models.d.ts'
import type { TaskControl } from '../../types/native.d.ts'
import { dvaeDecodeFlops, dvaeEncodeFlops } from '../model/flops.ts'
import { annealedAt } from './annealing.ts'
import { addScaled, type LossTerms } from './learner.ts'
import type { ResolvedTrainerOptions } from './options.ts'
import { type ImageTokenizerBatch, PictureLearner, type TrainableDvae } from './picture-learner.ts'

/** The losses of a step of a dvae, unweighted; `loss` is the evidence lower bound, negated, as a mean over the pixels' values. */
export interface DvaeTerms extends LossTerms {
  /** Minus the log-likelihood of a pixel's value under the logit-Laplace distribution; below 0 where its density is above 1. */
  likelihood: number
  /** KL divergence of a place's distribution over codes from the uniform one, in nats. */
  divergence: number
  /** Mean squared error of the picture; not trained on. */
  reconstruction: number
  temperature: number
  divergenceWeight: number
  /** e to the entropy of the codes in a batch, as drawn: how many are in use, if all used ones were used alike. */
  perplexity: number
  /** Different codes in a batch. */
  codesUsed: number
}

/** Trains the encoder and the decoder of a dvae on pictures. */
export class DvaeLearner extends PictureLearner<TrainableDvae, DvaeTerms> {
  readonly kind = 'dvae'
  readonly native: NativeDvaeTrainer

  constructor(native: NativeDvaeTrainer, tokenizer: TrainableDvae, options: ResolvedTrainerOptions) {
    super(tokenizer, options)
    this.native = native
  }

  async begin(): Promise<void> {}

  async accumulate(batches: readonly ImageTokenizerBatch[], control: TaskControl): Promise<DvaeTerms> {
    const { steps } = this.native
    const { straightThrough: hard } = this.options
    const temperature = annealedAt(steps, this.options.temperature!)
    const divergenceWeight = annealedAt(steps, this.options.divergenceWeight!)
    const seed = this.seedOf(steps)
    const all = batches.reduce((sum, batch) => sum + this.count(batch), 0)
    const sums = { total: 0, likelihood: 0, divergence: 0, reconstruction: 0 }
    let perplexity = 0
    let codesUsed = 0
    for (const [draw, batch] of batches.entries()) {
      const count = this.count(batch)
      const share = count / all
      const options = { divergenceWeight, temperature, hard: hard!, seed, draw }
      const result = await this.native.accumulate(batch.images, count, options, share, control)
      addScaled(sums, result.losses, share)
      perplexity += result.perplexity * share
      codesUsed = Math.max(codesUsed, result.codesUsed)
    }
    const { total, ...terms } = sums
    return { loss: total, ...terms, temperature, divergenceWeight, perplexity, codesUsed }
  }

  async finish(): Promise<Partial<DvaeTerms>> {
    return {}
  }

  protected flopsOfPicture(): number {
    // each product once forward, and twice backward: by the input and by the weights
    return 3 * (dvaeEncodeFlops(this.tokenizer.config) + dvaeDecodeFlops(this.tokenizer.config))
  }
}
