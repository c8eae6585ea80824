import { randomInt } from 'node:crypto'
import type { NativeDrawOptions } from '../../types/native-models.d.ts'
import { VilgError } from '../errors.ts'
import {
  expectInteger,
  expectNumber,
  expectNumbers,
  expectOneOf,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import type { GeneratedImage } from './generated-image.ts'
import type { ProgressEvent } from './events.ts'
import type { Reranker } from './reranker.ts'

/** The rerankers that have names: by the bundle's matcher, and by the generator's own likelihood of the prompt. */
export const RERANKERS = Object.freeze(['matcher', 'likelihood'] as const)
/** One of {@link RERANKERS}. */
export type RerankerName = (typeof RERANKERS)[number]

/**
 * How tokens are drawn. What is not given comes, for pictures, from the model's bundle, see {@link ErnieVilg.samplingDefaults}; for texts,
 * it is the model's own distribution ({@link PLAIN_SAMPLING}).
 */
export interface DrawOptions {
  /** An integer from 0 to 2^53 - 1; random unless given. Same seed, same result, whatever the thread count and `count`. */
  seed?: number
  /** Above 1 more varied, below 1 more certain; 0 always takes the most probable token. */
  temperature?: number
  /** Only the k most probable tokens are drawn from; 0: all. */
  topK?: number
  /** Only the most probable tokens that together reach this mass are drawn from, in (0, 1]; 1: all. */
  topP?: number
}

/** What every long call takes. */
export interface WorkOptions {
  /** Ends the call within the work of one token; it rejects with the signal's reason. */
  signal?: AbortSignal
  /** Called on the calling thread; what it throws rejects the call. */
  onProgress?: (event: ProgressEvent) => void
}

/** Options of {@link Sampler.textToImage}. */
export interface TextToImageOptions extends DrawOptions, WorkOptions {
  /** Candidates to draw, 1 to 1024; 1 unless given. */
  count?: number
  /** How many of them to return, the best first; all, in the order of their numbers, unless given. */
  best?: number
  /**
   * Decides what is best: `matcher` is the bundle's, `likelihood` the generator's own likelihood of the prompt given the picture. The matcher where
   * there is one, else the likelihood, unless given. Needs `best`.
   */
  reranker?: Reranker | RerankerName
  /** Cut a prompt that has more tokens than the model reads; an error unless true. */
  truncate?: boolean
  /** Classifier-free guidance: not there yet, `ERR_VILG_UNSUPPORTED`. */
  guidance?: number
  /** Fixed parts of the picture: not there yet, `ERR_VILG_UNSUPPORTED`. */
  imagePrompt?: unknown
}

/** Options of {@link Sampler.streamImage}. */
export interface StreamImageOptions extends DrawOptions {
  /** A preview every so many rows; 1 unless given, 0: none. */
  previewEvery?: number
  truncate?: boolean
  signal?: AbortSignal
}

/** Options of {@link Sampler.imageToText}. */
export interface ImageToTextOptions extends DrawOptions, WorkOptions {
  /** Descriptions to return, 1 to 64; 1 unless given. */
  count?: number
  /**
   * Width of the beam search, from `count` to 64; 4, or `count` where that is more, unless given. Not together with
   * `temperature`, `topK`, `topP` and `seed`, which sample instead (`temperature: 0` is greedy).
   */
  beams?: number
  /** Beams are ranked by log-probability / length^lengthPenalty; 0 unless given. */
  lengthPenalty?: number
}

/** Options of {@link Sampler.answer}. */
export type AnswerOptions = ImageToTextOptions

/** Sampling settings that suit a model. */
export interface SamplingDefaults {
  temperature: number
  topK: number
  topP: number
}

/** No filters, the model's own distribution. */
export const PLAIN_SAMPLING: SamplingDefaults = Object.freeze({ temperature: 1, topK: 0, topP: 1 })

const drawKeys = ['seed', 'temperature', 'topK', 'topP'] as const
/** Rows of one native session; also the widest beam search. */
export const maxRows = 64

/** @internal */
export function checkDraw(options: DrawOptions, defaults: SamplingDefaults): NativeDrawOptions {
  const { seed, temperature, topK, topP } = options
  const draw = {
    seed: expectInteger('seed', seed ?? randomInt(2 ** 32), { min: 0, max: Number.MAX_SAFE_INTEGER }),
    temperature: expectNumber('temperature', temperature ?? defaults.temperature, { min: 0, max: 1000 }),
    topK: expectInteger('topK', topK ?? defaults.topK, { min: 0, max: 2 ** 24 }),
    topP: expectNumber('topP', topP ?? defaults.topP, { min: 0, max: 1 }),
  }
  if (draw.topP === 0) throw outOfRange('topP', 'a number above 0 and at most 1', draw.topP)
  return draw
}

function checkProgress(onProgress: unknown): void {
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw typeMismatch('onProgress', 'a function', onProgress)
  }
}

/** @internal */
export function checkTextToImage(options: TextToImageOptions, defaults: SamplingDefaults) {
  rejectUnknownKeys('textToImage options', options, [
    ...drawKeys,
    'count',
    'best',
    'reranker',
    'truncate',
    'guidance',
    'imagePrompt',
    'signal',
    'onProgress',
  ])
  for (const name of ['guidance', 'imagePrompt'] as const) {
    if (options[name] !== undefined) {
      throw new VilgError(
        'ERR_VILG_UNSUPPORTED',
        `The option ${name} of textToImage is not there yet; leave it out`,
      )
    }
  }
  checkProgress(options.onProgress)
  const count = expectInteger('count', options.count ?? 1, { min: 1, max: 1024 })
  const best =
    options.best === undefined ? undefined : expectInteger('best', options.best, { min: 1, max: count })
  const { reranker } = options
  if (typeof reranker === 'string') {
    expectOneOf('reranker', reranker, RERANKERS)
  } else if (reranker !== undefined && typeof (reranker as Partial<Reranker> | null)?.score !== 'function') {
    throw typeMismatch('reranker', 'an object with a score function', reranker)
  }
  if (reranker !== undefined && best === undefined) {
    throw outOfRange('best', 'the number of pictures to keep, as a reranker is given', best)
  }
  return { draw: checkDraw(options, defaults), count, best, reranker }
}

/** @internal */
export function checkStreamImage(options: StreamImageOptions, defaults: SamplingDefaults) {
  rejectUnknownKeys('streamImage options', options, [...drawKeys, 'previewEvery', 'truncate', 'signal'])
  return {
    draw: checkDraw(options, defaults),
    previewEvery: expectInteger('previewEvery', options.previewEvery ?? 1, { min: 0 }),
  }
}

/** @internal */
export function checkImageToText(method: string, options: ImageToTextOptions) {
  rejectUnknownKeys(`${method} options`, options, [
    ...drawKeys,
    'count',
    'beams',
    'lengthPenalty',
    'signal',
    'onProgress',
  ])
  checkProgress(options.onProgress)
  const count = expectInteger('count', options.count ?? 1, { min: 1, max: maxRows })
  const samples = drawKeys.find((key) => options[key] !== undefined)
  const other = (['beams', 'lengthPenalty'] as const).find((key) => options[key] !== undefined)
  if (samples !== undefined && other !== undefined) {
    throw outOfRange(samples, `no ${samples}, as ${other} asks for a beam search`, options[samples])
  }
  const beamSearch = samples === undefined
  const beams = beamSearch
    ? expectInteger('beams', options.beams ?? Math.max(4, count), { min: count, max: maxRows })
    : count
  return {
    draw: checkDraw(options, PLAIN_SAMPLING),
    count,
    beams,
    beamSearch,
    lengthPenalty: expectNumber('lengthPenalty', options.lengthPenalty ?? 0, { min: -10, max: 10 }),
  }
}

/** @internal */
export function checkScores(scores: unknown, images: readonly GeneratedImage[]): number[] {
  return expectNumbers('the scores of the reranker', scores, images.length)
}
