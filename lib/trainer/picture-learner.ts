import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { CounterRandom } from '../data/random.ts'
import type { DvaeConfig } from '../model/dvae-config.ts'
import { type ImageTokenizerConfig, reductionOf, type VqganConfig } from '../model/image-tokenizer-config.ts'
import { expectTypedArray, outOfRange, typeMismatch } from '../validate.ts'
import { ignoreStopped } from './generator-learner.ts'
import { addScaled, type Learner, type LossTerms, type NativeTrainerCore, type StepSize } from './learner.ts'
import type { ResolvedTrainerOptions, TargetKind } from './options.ts'

/** Pictures, B x 3 x S x S in [-1, 1]; S is the tokenizer's resolution. */
export interface ImageTokenizerBatch {
  images: Float32Array
}

/** What {@link Trainer.evaluate} gives for an image tokenizer: pictures against what becomes of them as tokens. */
export interface ImageTokenizerEvaluation {
  /** Mean squared error, of pictures from -1 to 1. */
  reconstruction: number
  /** Mean absolute error. */
  absolute: number
  /** Peak signal-to-noise ratio of all pixels together, in decibels. */
  psnr: number
  /** Of all codes of all pictures. */
  perplexity: number
  codesUsed: number
  images: number
  /** LPIPS; only of a vqgan that is trained with `perceptual`. */
  perceptual?: number
  /** The discriminator's mean logits of pictures and of reconstructions; only where it has begun. */
  realLogit?: number
  fakeLogit?: number
}

/** What a learner needs of an image tokenizer. */
export interface TrainableImageTokenizer {
  readonly config: Readonly<Required<ImageTokenizerConfig>>
  encode(
    images: Float32Array,
    options?: { count?: number; signal?: AbortSignal },
  ): Promise<{ indices: Int32Array }>
  decode(indices: Int32Array, options?: { count?: number; signal?: AbortSignal }): Promise<Float32Array>
}

/** One of a vqgan. */
export type TrainableVqgan = TrainableImageTokenizer & { readonly config: Readonly<Required<VqganConfig>> }
/** One of a dvae. */
export type TrainableDvae = TrainableImageTokenizer & { readonly config: Readonly<Required<DvaeConfig>> }

/** What the learners of all kinds of image tokenizers share: batches of pictures, and how they are measured. */
export abstract class PictureLearner<
  Tokenizer extends TrainableImageTokenizer,
  Terms extends LossTerms,
> implements Learner<ImageTokenizerBatch, Terms, ImageTokenizerEvaluation> {
  abstract readonly kind: TargetKind
  abstract readonly native: NativeTrainerCore
  protected readonly tokenizer: Tokenizer
  protected readonly options: ResolvedTrainerOptions

  constructor(tokenizer: Tokenizer, options: ResolvedTrainerOptions) {
    this.tokenizer = tokenizer
    this.options = options
  }

  abstract begin(batches: readonly ImageTokenizerBatch[], control: TaskControl): Promise<void>
  abstract accumulate(batches: readonly ImageTokenizerBatch[], control: TaskControl): Promise<Terms>
  abstract finish(step: number): Promise<Partial<Terms>>
  /** What else there is to measure of pictures and their reconstructions in [-1, 1]: means over them, by name. */
  protected async measure(
    _images: Float32Array,
    _reconstructions: Float32Array,
    _signal: AbortSignal,
  ): Promise<Partial<ImageTokenizerEvaluation>> {
    return {}
  }
  /** Operations of the products that a picture cost in the last step, forward and backward. */
  protected abstract flopsOfPicture(): number

  check(name: string, batch: unknown): void {
    if (typeof batch !== 'object' || batch === null) throw typeMismatch(name, 'an object with images', batch)
    const { images } = batch as ImageTokenizerBatch
    expectTypedArray(`${name}.images`, images, Float32Array)
    if (images.length === 0 || images.length % this.#imageSize() !== 0) {
      const { resolution } = this.tokenizer.config
      const expected = `pictures of 3 x ${resolution} x ${resolution} values`
      throw outOfRange(`${name}.images`, expected, images, 'ERR_VILG_SHAPE_MISMATCH')
    }
  }

  size(batches: readonly ImageTokenizerBatch[]): StepSize {
    const side = this.tokenizer.config.resolution / reductionOf(this.tokenizer.config)
    const pairs = batches.reduce((sum, batch) => sum + this.count(batch), 0)
    return { pairs, tokens: pairs * side * side, flops: pairs * this.flopsOfPicture() }
  }

  async clear(batches: readonly ImageTokenizerBatch[], stop: StopFlag): Promise<void> {
    stop.raise()
    await this.accumulate(batches.slice(0, 1), { stop }).catch(ignoreStopped)
  }

  async evaluate(
    data: AsyncIterable<ImageTokenizerBatch>,
    signal: AbortSignal,
  ): Promise<ImageTokenizerEvaluation> {
    const uses = new Float64Array(this.tokenizer.config.codebookSize)
    let squared = 0
    let absolute = 0
    let values = 0
    let tokens = 0
    const more: Partial<ImageTokenizerEvaluation> = {}
    for await (const batch of data) {
      this.check('batch', batch)
      const { images } = batch
      const count = this.count(batch)
      const { indices } = await this.tokenizer.encode(images, { count, signal })
      const decoded = await this.tokenizer.decode(indices, { count, signal })
      // a picture has no values beyond, so neither has what is shown
      for (let i = 0; i < decoded.length; i++) decoded[i] = Math.min(1, Math.max(-1, decoded[i]!))
      addScaled(more, await this.measure(images, decoded, signal), count)
      for (const index of indices) uses[index]! += 1
      for (let i = 0; i < images.length; i++) {
        const error = images[i]! - decoded[i]!
        squared += error * error
        absolute += Math.abs(error)
      }
      values += images.length
      tokens += indices.length
    }
    if (values === 0) throw outOfRange('data', 'at least one batch', 0)
    const used = uses.filter((count) => count > 0).map((count) => count / tokens)
    const reconstruction = squared / values
    const pictures = values / this.#imageSize()
    return {
      reconstruction,
      absolute: absolute / values,
      psnr: 10 * Math.log10(4 / reconstruction), // the peak, from -1 to 1, is 2
      perplexity: Math.exp(-used.reduce((sum, share) => sum + share * Math.log(share), 0)),
      codesUsed: used.length,
      images: pictures,
      ...Object.fromEntries(Object.entries(more).map(([key, sum]) => [key, sum / pictures])),
    }
  }

  protected count(batch: ImageTokenizerBatch): number {
    return batch.images.length / this.#imageSize()
  }

  /** A seed for each step, so that no two draw alike and a resumed run draws as an uninterrupted one. */
  protected seedOf(step: number): number {
    return new CounterRandom(this.options.seed, step).next()
  }

  #imageSize(): number {
    return 3 * this.tokenizer.config.resolution ** 2
  }
}
