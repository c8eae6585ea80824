import type { NativeImageTokenizerTrainer } from '../../types/native-models.d.ts'
import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { CounterRandom } from '../data/random.ts'
import type { ImageTokenizerConfig } from '../model/image-tokenizer-config.ts'
import { vqganDecodeFlops, vqganEncodeFlops } from '../model/flops.ts'
import { expectTypedArray, outOfRange, typeMismatch } from '../validate.ts'
import { ignoreStopped } from './generator-learner.ts'
import { addScaled, type Learner, type LossTerms, type StepSize } from './learner.ts'
import type { ResolvedTrainerOptions } from './options.ts'

/** Pictures, B x 3 x S x S in [-1, 1]; S is the tokenizer's resolution. */
export interface ImageTokenizerBatch {
  images: Float32Array
}

/** The losses of a step, unweighted (`loss` is the weighted sum), and how the codebook is used. */
export interface ImageTokenizerTerms extends LossTerms {
  /** Mean squared error of the picture. */
  reconstruction: number
  /** Mean absolute error of the picture. */
  absolute: number
  commitment: number
  codebook: number
  /** e to the entropy of the codes in a batch: how many are in use, if all used ones were used alike. */
  perplexity: number
  /** Different codes in a batch. */
  codesUsed: number
  /** Dead codes that were replaced after the step. */
  revived: number
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

/** Trains encoder, codebook and decoder on pictures. */
export class ImageTokenizerLearner implements Learner<
  ImageTokenizerBatch,
  ImageTokenizerTerms,
  ImageTokenizerEvaluation
> {
  readonly kind = 'image-tokenizer'
  readonly native: NativeImageTokenizerTrainer
  readonly #tokenizer: TrainableImageTokenizer
  readonly #options: ResolvedTrainerOptions

  constructor(
    native: NativeImageTokenizerTrainer,
    tokenizer: TrainableImageTokenizer,
    options: ResolvedTrainerOptions,
  ) {
    this.native = native
    this.#tokenizer = tokenizer
    this.#options = options
  }

  check(name: string, batch: unknown): void {
    if (typeof batch !== 'object' || batch === null) throw typeMismatch(name, 'an object with images', batch)
    const { images } = batch as ImageTokenizerBatch
    expectTypedArray(`${name}.images`, images, Float32Array)
    if (images.length === 0 || images.length % this.#imageSize() !== 0) {
      const { resolution } = this.#tokenizer.config
      const expected = `pictures of 3 x ${resolution} x ${resolution} values`
      throw outOfRange(`${name}.images`, expected, images, 'ERR_VILG_SHAPE_MISMATCH')
    }
  }

  size(batches: readonly ImageTokenizerBatch[]): StepSize {
    const { resolution, multipliers } = this.#tokenizer.config
    const side = resolution / 2 ** (multipliers.length - 1)
    const pairs = batches.reduce((sum, batch) => sum + this.#count(batch), 0)
    // each product once forward, and twice backward: by the input and by the weights
    const flops =
      3 * pairs * (vqganEncodeFlops(this.#tokenizer.config) + vqganDecodeFlops(this.#tokenizer.config))
    return { pairs, tokens: pairs * side * side, flops }
  }

  async begin(batches: readonly ImageTokenizerBatch[], control: TaskControl): Promise<void> {
    if (!this.#options.initializeCodebook) return
    // From all micro-batches: the more vectors, the better the codes.
    const images = join(batches)
    const seed = this.#seedOf(0)
    await this.native.initializeCodebook(images, images.length / this.#imageSize(), seed, control)
  }

  async accumulate(
    batches: readonly ImageTokenizerBatch[],
    control: TaskControl,
  ): Promise<ImageTokenizerTerms> {
    const weights = this.#options.lossWeights!
    const all = batches.reduce((sum, batch) => sum + this.#count(batch), 0)
    const sums = { total: 0, reconstruction: 0, absolute: 0, commitment: 0, codebook: 0 }
    let perplexity = 0
    let codesUsed = 0
    for (const batch of batches) {
      const count = this.#count(batch)
      const share = count / all
      const result = await this.native.accumulate(batch.images, count, weights, share, control)
      addScaled(sums, result.losses, share)
      perplexity += result.perplexity * share
      codesUsed = Math.max(codesUsed, result.codesUsed)
    }
    const { total, ...terms } = sums
    return { loss: total, ...terms, perplexity, codesUsed, revived: 0 }
  }

  async clear(batches: readonly ImageTokenizerBatch[], stop: StopFlag): Promise<void> {
    stop.raise()
    await this.accumulate(batches.slice(0, 1), { stop }).catch(ignoreStopped)
  }

  async finish(step: number): Promise<Partial<ImageTokenizerTerms>> {
    const { reviveAfter } = this.#options
    if (reviveAfter === 0) return {}
    return { revived: await this.native.revive(reviveAfter!, this.#seedOf(step)) }
  }

  async evaluate(
    data: AsyncIterable<ImageTokenizerBatch>,
    signal: AbortSignal,
  ): Promise<ImageTokenizerEvaluation> {
    const uses = new Float64Array(this.#tokenizer.config.codebookSize)
    let squared = 0
    let absolute = 0
    let values = 0
    let tokens = 0
    for await (const batch of data) {
      this.check('batch', batch)
      const { images } = batch
      const count = this.#count(batch)
      const { indices } = await this.#tokenizer.encode(images, { count, signal })
      const decoded = await this.#tokenizer.decode(indices, { count, signal })
      for (const index of indices) uses[index]! += 1
      for (let i = 0; i < images.length; i++) {
        // a picture has no values beyond, so neither has what is shown
        const error = images[i]! - Math.min(1, Math.max(-1, decoded[i]!))
        squared += error * error
        absolute += Math.abs(error)
      }
      values += images.length
      tokens += indices.length
    }
    if (values === 0) throw outOfRange('data', 'at least one batch', 0)
    const used = uses.filter((count) => count > 0).map((count) => count / tokens)
    const reconstruction = squared / values
    return {
      reconstruction,
      absolute: absolute / values,
      psnr: 10 * Math.log10(4 / reconstruction), // the peak, from -1 to 1, is 2
      perplexity: Math.exp(-used.reduce((sum, share) => sum + share * Math.log(share), 0)),
      codesUsed: used.length,
      images: values / this.#imageSize(),
    }
  }

  #imageSize(): number {
    return 3 * this.#tokenizer.config.resolution ** 2
  }

  #count(batch: ImageTokenizerBatch): number {
    return batch.images.length / this.#imageSize()
  }

  /** A seed for each step, so that no two draw alike and a resumed run draws as an uninterrupted one. */
  #seedOf(step: number): number {
    return new CounterRandom(this.#options.seed, step).next()
  }
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
