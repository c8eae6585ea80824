import type { NativeImageTokenizerTrainer, NativeVqganTrainingOptions } from '../../types/native-models.d.ts'
import type { TaskControl } from '../../types/native.d.ts'
import { CounterRandom } from '../data/random.ts'
import { discriminatorFlops, lpipsFlops, vqganDecodeFlops, vqganEncodeFlops } from '../model/flops.ts'
import { callNative } from '../native/call.ts'
import { addScaled, type LossTerms } from './learner.ts'
import type { ResolvedTrainerOptions } from './options.ts'
import {
  type ImageTokenizerBatch,
  type ImageTokenizerEvaluation,
  PictureLearner,
  type TrainableVqgan,
} from './picture-learner.ts'

/** The losses of a step, unweighted (`loss` is the weighted sum), and how the codebook is used. */
export interface ImageTokenizerTerms extends LossTerms {
  /** Mean squared error of the picture. */
  reconstruction: number
  /** Mean absolute error of the picture. */
  absolute: number
  commitment: number
  codebook: number
  /** LPIPS of the picture; only with `perceptual`. */
  perceptual?: number
  /** Minus the mean logit that the discriminator gives reconstructions; as the next ones, only from its start on. */
  adversarial?: number
  /** What `adversarial` was multiplied by: the adaptive weight times that of the discriminator. */
  adaptiveWeight?: number
  /** The discriminator's own hinge loss. */
  discriminator?: number
  /** Mean logits of real pictures and of reconstructions. */
  realLogit?: number
  fakeLogit?: number
  /** e to the entropy of the codes in a batch: how many are in use, if all used ones were used alike. */
  perplexity: number
  /** Different codes in a batch. */
  codesUsed: number
  /** Dead codes that were replaced after the step. */
  revived: number
}

/** Trains encoder, codebook and decoder of a vqgan on pictures, and a discriminator against them where one is asked for. */
export class ImageTokenizerLearner extends PictureLearner<TrainableVqgan, ImageTokenizerTerms> {
  readonly kind = 'image-tokenizer'
  readonly native: NativeImageTokenizerTrainer
  /** Whether the discriminator took part in the last step. */
  #isAgainst = false

  constructor(
    native: NativeImageTokenizerTrainer,
    tokenizer: TrainableVqgan,
    options: ResolvedTrainerOptions,
  ) {
    super(tokenizer, options)
    this.native = native
  }

  async begin(batches: readonly ImageTokenizerBatch[], control: TaskControl): Promise<void> {
    if (!this.options.initializeCodebook) return
    // From all micro-batches: the more vectors, the better the codes.
    const images = join(batches)
    await this.native.initializeCodebook(images, this.count({ images }), this.seedOf(0), control)
  }

  async accumulate(
    batches: readonly ImageTokenizerBatch[],
    control: TaskControl,
  ): Promise<ImageTokenizerTerms> {
    const { lossWeights, perceptual, discriminator } = this.options
    const isAgainst = discriminator !== undefined && this.native.steps >= discriminator.start
    this.#isAgainst = isAgainst
    const weights = {
      ...lossWeights!,
      perceptual: perceptual?.weight ?? 0,
      discriminator: isAgainst ? discriminator.weight : 0,
    }
    const all = batches.reduce((sum, batch) => sum + this.count(batch), 0)
    const sums = { total: 0, reconstruction: 0, absolute: 0, commitment: 0, codebook: 0 }
    const against = {
      adversarial: 0,
      adaptiveWeight: 0,
      discriminator: 0,
      realLogit: 0,
      fakeLogit: 0,
    }
    let lpips = 0
    let perplexity = 0
    let codesUsed = 0
    for (const batch of batches) {
      const count = this.count(batch)
      const share = count / all
      const result = await this.native.accumulate(batch.images, count, weights, share, control)
      addScaled(sums, result.losses, share)
      const { perceptual: distance, ...adversary } = result.adversary
      lpips += distance * share
      addScaled(against, adversary, share)
      perplexity += result.perplexity * share
      codesUsed = Math.max(codesUsed, result.codesUsed)
    }
    const { total, ...terms } = sums
    return {
      loss: total,
      ...terms,
      ...(perceptual === undefined ? {} : { perceptual: lpips }),
      ...(isAgainst ? against : {}),
      perplexity,
      codesUsed,
      revived: 0,
    }
  }

  async finish(step: number): Promise<Partial<ImageTokenizerTerms>> {
    const { reviveAfter } = this.options
    if (reviveAfter === 0) return {}
    return { revived: await this.native.revive(reviveAfter!, this.seedOf(step)) }
  }

  protected override async measure(
    images: Float32Array,
    reconstructions: Float32Array,
    signal: AbortSignal,
  ): Promise<Partial<ImageTokenizerEvaluation>> {
    const { discriminator } = this.options
    const hasPerceptual = this.options.perceptual !== undefined
    const isTrained = discriminator !== undefined && this.native.steps > discriminator.start
    if (!hasPerceptual && !isTrained) return {}
    const { perceptual, realLogit, fakeLogit } = await callNative({ signal }, (control) =>
      this.native.measure(images, reconstructions, this.count({ images }), control),
    )
    return { ...(hasPerceptual ? { perceptual } : {}), ...(isTrained ? { realLogit, fakeLogit } : {}) }
  }

  protected flopsOfPicture(): number {
    const { config } = this.tokenizer
    const { perceptual, discriminator } = this.options
    // each product once forward, and twice backward: by the input and by the weights
    let flops = 3 * (vqganEncodeFlops(config) + vqganDecodeFlops(config))
    // forward for the picture and its reconstruction, backward by the input
    if (perceptual !== undefined) flops += 3 * lpipsFlops(config.resolution)
    // forward and backward by the input for the decoder, then all of it for picture and reconstruction
    if (this.#isAgainst) flops += 8 * discriminatorFlops(config.resolution, discriminator!)
    return flops
  }
}

/** What the native trainer of a vqgan is made with. */
export function vqganTraining(options: ResolvedTrainerOptions): NativeVqganTrainingOptions {
  const { perceptual, discriminator, codebookAverages, codebookRate, seed } = options
  return {
    ...(perceptual === undefined ? {} : { perceptualWeights: perceptual.weights }),
    ...(discriminator === undefined
      ? {}
      : {
          discriminator: {
            channels: discriminator.channels,
            layers: discriminator.layers,
            // of its first weights; a stream that no step has
            seed: new CounterRandom(seed, Number.MAX_SAFE_INTEGER).next(),
          },
        }),
    ...(codebookAverages === undefined ? {} : { codebookAverages }),
    ...(codebookRate === undefined ? {} : { codebookRate }),
  }
}

/** What a run says of its losses at its start. */
export function vqganNotes({ perceptual }: ResolvedTrainerOptions): string[] {
  return perceptual === undefined ? ['no perceptual loss, as no weights of LPIPS are given'] : []
}

function join(batches: readonly ImageTokenizerBatch[]): Float32Array {
  if (batches.length === 1) return batches[0]!.images
  const joined = new Float32Array(batches.reduce((sum, { images }) => sum + images.length, 0))
  let at = 0
  for (const { images } of batches) {
    joined.set(images, at)
    at += images.length
  }
  return joined
}
