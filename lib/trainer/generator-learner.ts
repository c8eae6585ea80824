import type { NativeGeneratorTrainer } from '../../types/native-models.d.ts'
import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { stopped } from '../native/binding.ts'
import { expectTypedArray, outOfRange, typeMismatch } from '../validate.ts'
import type { Learner, LossTerms, StepSize } from './learner.ts'
import type { ResolvedTrainerOptions } from './options.ts'

/** B pairs of texts and pictures as tokens; M is the generator's text length and n its grid squared. */
export interface GeneratorBatch {
  /** B x M, CLS .. SEP PAD.. */
  text: Int32Array
  /** B x M, 1 where not PAD. */
  textValid: Uint8Array
  /** B x n. */
  image: Int32Array
}

/** The losses of a step, in nats a token. */
export interface GeneratorTerms extends LossTerms {
  /** Mean over the image tokens; 0 where its weight is. */
  textToImage: number
  /** Mean over the text tokens that are not PAD; 0 where its weight is. */
  imageToText: number
}

/** What {@link Trainer.evaluate} gives for a generator, without label smoothing and z-loss. */
export interface GeneratorEvaluation extends GeneratorTerms {
  pairs: number
}

/** What a learner needs of a generator. */
export interface TrainableGenerator {
  readonly config: { readonly textLength: number; readonly grid: number }
  readonly parameterCount: number
  forward(
    batch: GeneratorBatch,
    options: { direction: 'text-to-image' | 'image-to-text'; signal?: AbortSignal },
  ): Promise<{ loss: number }>
}

/** Trains both directions of the same pairs in one step. */
export class GeneratorLearner implements Learner<GeneratorBatch, GeneratorTerms, GeneratorEvaluation> {
  readonly kind = 'generator'
  readonly native: NativeGeneratorTrainer
  readonly #generator: TrainableGenerator
  readonly #options: ResolvedTrainerOptions

  constructor(
    native: NativeGeneratorTrainer,
    generator: TrainableGenerator,
    options: ResolvedTrainerOptions,
  ) {
    this.native = native
    this.#generator = generator
    this.#options = options
  }

  check(name: string, batch: unknown): void {
    if (typeof batch !== 'object' || batch === null) {
      throw typeMismatch(name, 'an object with text, textValid and image', batch)
    }
    const { text, textValid, image } = batch as GeneratorBatch
    const { textLength, imageLength } = this.#lengths()
    expectTypedArray(`${name}.text`, text, Int32Array)
    if (text.length === 0 || text.length % textLength !== 0) {
      const expected = `pairs of ${textLength} text tokens`
      throw outOfRange(`${name}.text`, expected, text, 'ERR_VILG_SHAPE_MISMATCH')
    }
    expectTypedArray(`${name}.textValid`, textValid, Uint8Array, text.length)
    expectTypedArray(`${name}.image`, image, Int32Array, (text.length / textLength) * imageLength)
  }

  size(batches: readonly GeneratorBatch[]): StepSize {
    const { textLength, imageLength } = this.#lengths()
    const { textToImage, imageToText } = this.#options.directionWeights!
    const pairs = batches.reduce((sum, batch) => sum + this.#pairs(batch), 0)
    const directions = Number(textToImage > 0) + Number(imageToText > 0)
    const tokens = pairs * (textLength + 1 + imageLength) * directions
    // a multiply-add a weight forward, and two backward: by the input and by the weight
    return { pairs, tokens, flops: 6 * this.#generator.parameterCount * tokens }
  }

  async begin(): Promise<void> {}

  async accumulate(batches: readonly GeneratorBatch[], control: TaskControl): Promise<GeneratorTerms> {
    const { directionWeights, labelSmoothing, zLoss } = this.#options
    const { textToImage, imageToText } = directionWeights!
    const pairs = batches.map((batch) => this.#pairs(batch))
    const targets = batches.map((batch, i) => countTargets(batch, pairs[i]!))
    const allPairs = sum(pairs)
    const allTargets = sum(targets)
    const terms: GeneratorTerms = { loss: 0, textToImage: 0, imageToText: 0 }
    for (const [i, { text, textValid, image }] of batches.entries()) {
      // A loss is a mean over tokens: each micro-batch counts by the tokens that it has of all, which differs by direction.
      const imageShare = pairs[i]! / allPairs
      const textShare = allTargets === 0 ? 0 : targets[i]! / allTargets
      const options = {
        textToImageWeight: textToImage * imageShare,
        imageToTextWeight: imageToText * textShare,
        labelSmoothing: labelSmoothing!,
        zLoss: zLoss!,
      }
      const losses = await this.native.accumulate(text, textValid, image, pairs[i]!, options, 1, control)
      terms.textToImage += losses.textToImage * imageShare
      terms.imageToText += losses.imageToText * textShare
    }
    terms.loss = textToImage * terms.textToImage + imageToText * terms.imageToText
    return terms
  }

  async clear(batches: readonly GeneratorBatch[], stop: StopFlag): Promise<void> {
    stop.raise()
    await this.accumulate(batches.slice(0, 1), { stop }).catch(ignoreStopped)
  }

  async finish(): Promise<Partial<GeneratorTerms>> {
    return {}
  }

  async evaluate(data: AsyncIterable<GeneratorBatch>, signal: AbortSignal): Promise<GeneratorEvaluation> {
    const { textToImage, imageToText } = this.#options.directionWeights!
    const sums = { textToImage: 0, imageToText: 0 }
    let pairs = 0
    let targets = 0
    for await (const batch of data) {
      this.check('batch', batch)
      const numPairs = this.#pairs(batch)
      const numTargets = countTargets(batch, numPairs)
      const image = await this.#generator.forward(batch, { direction: 'text-to-image', signal })
      const text = await this.#generator.forward(batch, { direction: 'image-to-text', signal })
      sums.textToImage += image.loss * numPairs
      sums.imageToText += text.loss * numTargets
      pairs += numPairs
      targets += numTargets
    }
    if (pairs === 0) throw outOfRange('data', 'at least one batch', 0)
    const means = {
      textToImage: sums.textToImage / pairs,
      imageToText: sums.imageToText / Math.max(1, targets),
    }
    return {
      loss: textToImage * means.textToImage + imageToText * means.imageToText,
      ...means,
      pairs,
    }
  }

  #lengths(): { textLength: number; imageLength: number } {
    const { textLength, grid } = this.#generator.config
    return { textLength, imageLength: grid * grid }
  }

  #pairs(batch: GeneratorBatch): number {
    return batch.text.length / this.#generator.config.textLength
  }
}

/** Swallows what a stopped native task rejects with, and nothing else. */
export function ignoreStopped(error: unknown): void {
  if (error !== stopped) throw error
}

/** Text tokens that something predicts: all that are valid but CLS. */
function countTargets({ textValid }: GeneratorBatch, pairs: number): number {
  let valid = 0
  for (let i = 0; i < textValid.length; i++) valid += textValid[i]!
  return valid - pairs
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
