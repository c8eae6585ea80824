import type { ImageTextPair } from '../../data/pairs.ts'
import type { ImageTokenizer } from '../../model/image-tokenizer.ts'
import type { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import type { GeneratorBatch } from '../generator-learner.ts'
import type { ImageTokenizerBatch } from '../picture-learner.ts'
import type { RunBatches } from '../run.ts'

/** Which endless batches. */
export interface BatchOptions {
  /** Pairs in a batch. */
  batch: number
  /** Decides the order and every other choice. */
  seed: number
  /** Number of the first batch. */
  start: number
  /** What the batches of an earlier part of the run said of their state. */
  state?: unknown
}

/** How captions become tokens. */
export interface CaptionOptions {
  tokenizer: TextTokenizer
  /** Tokens a text; longer captions are cut. */
  textLength: number
}

/** The parts that pairs are in. */
export type DataPart = 'train' | 'held-out'

/** What the stages train on, whatever it is read from. */
export interface TrainingData {
  /** What decides the data, as JSON: a run goes on with the same only. */
  readonly settings: unknown
  /** Whether any pair is held out: without one, nothing is evaluated. */
  readonly hasHeldOut: boolean
  /** The captions of all pairs of a part. */
  captions(part: DataPart): AsyncIterable<readonly string[]>
  /**
   * Pairs to look at: `count` that are trained on, and where there are any as many that are held out.
   *
   * @param imageTokenizer turns codes back, where there is nothing else
   */
  shown(count: number, imageTokenizer?: ImageTokenizer): Promise<ImageTextPair[]>
  /** Endless batches of pictures, half of them mirrored: it costs nothing, and doubles what the tokenizer sees. */
  imageBatches(options: BatchOptions): RunBatches<ImageTokenizerBatch>
  /** The held-out pictures once, in batches of at most `batch`. */
  heldOutImages(batch: number): AsyncIterable<ImageTokenizerBatch>
  /** Turns all pictures into tokens, once. @returns what to say of it */
  makeTokens(place: TokenPlace, signal: AbortSignal): Promise<string>
  /**
   * The tokens that {@link makeTokens} made, with captions as tokens.
   *
   * @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE where they are of another image tokenizer or other pictures
   */
  openTokens(place: TokenPlace, captions: CaptionOptions): Promise<TokenData>
}

/** Where tokens are, and what makes them. */
export interface TokenPlace {
  /** The run folder. */
  folder: string
  /** That of the image tokenizer. */
  tokenizerFolder: string
  /** Tokens a picture. */
  length: number
}

/** Pairs as tokens. */
export interface TokenData {
  /** Changes with the tokens. */
  readonly key: string
  /**
   * Endless batches, every picture with one of its captions: with its name with probability `nameShare`, else with one of the
   * others.
   */
  shuffled(options: BatchOptions & { nameShare: number }): RunBatches<GeneratorBatch>
  /** The held-out pairs once, with their names, in batches of at most `batch`. */
  heldOut(batch: number): AsyncIterable<GeneratorBatch>
}
