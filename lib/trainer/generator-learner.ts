import type { NativeGeneratorTrainer } from '../../types/native-models.d.ts'
import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { stopped } from '../native/binding.ts'
import { type Direction, DIRECTIONS } from '../kernels.ts'
import { expectOneOf, expectTypedArray, outOfRange } from '../validate.ts'
import type { Learner, LossTerms, StepSize } from './learner.ts'
import type { ResolvedTrainerOptions } from './options.ts'
import { checkPairs, countPairs, type PairBatch } from './pair-batch.ts'

/** Pairs to train a generator on. */
export interface GeneratorBatch extends PairBatch {
  /** B x M, 1 where describing is to predict the token; unless given, all that are valid, but CLS. */
  textTarget?: Uint8Array | undefined
  /** The only direction that the batch is for; both unless given. Questions with answers are for `image-to-text`. */
  direction?: Direction | undefined
}

/** The losses of a step, in nats a token. */
export interface GeneratorTerms extends LossTerms {
  /** Mean over the image tokens; 0 where its weight is. */
  textToImage: number
  /** Mean over the text tokens that it is to predict; 0 where its weight is. */
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
    batch: Omit<GeneratorBatch, 'direction'>,
    options: { direction: Direction; signal?: AbortSignal },
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
    checkPairs(name, batch, this.#generator.config)
    const { text, textTarget, direction } = batch as GeneratorBatch
    if (textTarget !== undefined) expectTypedArray(`${name}.textTarget`, textTarget, Uint8Array, text.length)
    if (direction !== undefined) {
      expectOneOf(`${name}.direction`, direction, DIRECTIONS)
      if (this.#weight(direction) === 0) {
        throw outOfRange(`${name}.direction`, 'a direction whose weight is not 0', direction)
      }
    }
    const { pictures, targets } = this.#count(batch as GeneratorBatch)
    if (pictures === 0 && targets === 0) {
      throw outOfRange(
        `${name}.textTarget`,
        'a text token to predict in a batch that is described only',
        textTarget,
      )
    }
  }

  size(batches: readonly GeneratorBatch[]): StepSize {
    const { textLength, grid } = this.#generator.config
    const pairs = sum(batches.map((batch) => this.#pairs(batch)))
    const streams = sum(batches.map((batch) => this.#pairs(batch) * this.#directions(batch).length))
    const tokens = streams * (textLength + 1 + grid ** 2)
    // a multiply-add a weight forward, and two backward: by the input and by the weight
    return { pairs, tokens, flops: 6 * this.#generator.parameterCount * tokens }
  }

  async begin(): Promise<void> {}

  async accumulate(batches: readonly GeneratorBatch[], control: TaskControl): Promise<GeneratorTerms> {
    const { directionWeights, labelSmoothing, zLoss } = this.#options
    const { textToImage, imageToText } = directionWeights!
    const counts = batches.map((batch) => this.#count(batch))
    const all = {
      pictures: sum(counts.map((of) => of.pictures)),
      targets: sum(counts.map((of) => of.targets)),
    }
    const terms: GeneratorTerms = { loss: 0, textToImage: 0, imageToText: 0 }
    for (const [i, { text, textValid, image, textTarget }] of batches.entries()) {
      // A loss is a mean over tokens: each micro-batch counts by the tokens that it has of all, which differs by direction.
      const imageShare = all.pictures === 0 ? 0 : counts[i]!.pictures / all.pictures
      const textShare = all.targets === 0 ? 0 : counts[i]!.targets / all.targets
      const options = {
        textToImageWeight: textToImage * imageShare,
        imageToTextWeight: imageToText * textShare,
        labelSmoothing: labelSmoothing!,
        zLoss: zLoss!,
      }
      const losses = await this.native.accumulate(
        ...([text, textValid, image, this.#pairs(batches[i]!), textTarget] as const),
        options,
        1,
        control,
      )
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
    const all = { pictures: 0, targets: 0 }
    let pairs = 0
    for await (const batch of data) {
      this.check('batch', batch)
      const { direction: _, ...tokens } = batch
      const { pictures, targets } = this.#count(batch)
      if (pictures > 0) {
        const { loss } = await this.#generator.forward(tokens, { direction: 'text-to-image', signal })
        sums.textToImage += loss * pictures
      }
      if (targets > 0) {
        const { loss } = await this.#generator.forward(tokens, { direction: 'image-to-text', signal })
        sums.imageToText += loss * targets
      }
      pairs += this.#pairs(batch)
      all.pictures += pictures
      all.targets += targets
    }
    if (pairs === 0) throw outOfRange('data', 'at least one batch', 0)
    const means = {
      textToImage: sums.textToImage / Math.max(1, all.pictures),
      imageToText: sums.imageToText / Math.max(1, all.targets),
    }
    return {
      loss: textToImage * means.textToImage + imageToText * means.imageToText,
      ...means,
      pairs,
    }
  }

  #pairs(batch: GeneratorBatch): number {
    return countPairs(batch, this.#generator.config)
  }

  #weight(direction: Direction): number {
    const { textToImage, imageToText } = this.#options.directionWeights!
    return direction === 'text-to-image' ? textToImage : imageToText
  }

  /** Those that a batch is trained in. */
  #directions({ direction }: GeneratorBatch): Direction[] {
    return DIRECTIONS.filter((one) => (direction ?? one) === one && this.#weight(one) > 0)
  }

  /** What the two losses of a batch are means over: pictures (all have as many tokens), and text tokens. */
  #count(batch: GeneratorBatch): { pictures: number; targets: number } {
    const { direction } = batch
    const pairs = this.#pairs(batch)
    return {
      pictures: direction === 'image-to-text' ? 0 : pairs,
      targets: direction === 'text-to-image' ? 0 : countTargets(batch, pairs),
    }
  }
}

/** Swallows what a stopped native task rejects with, and nothing else. */
export function ignoreStopped(error: unknown): void {
  if (error !== stopped) throw error
}

/** Text tokens that describing is to predict: those asked for of all that are valid but CLS. */
function countTargets({ textValid, textTarget }: GeneratorBatch, pairs: number): number {
  const length = textValid.length / pairs
  let count = 0
  for (let i = 0; i < textValid.length; i++) {
    if (i % length !== 0 && textValid[i] === 1 && textTarget?.[i] !== 0) count++
  }
  return count
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
