/**
 * The part of the native contract (types/native.d.ts) that concerns models: handles, decoding sessions and trainers. Sizes and
 * options are checked by lib/; the native side checks again what memory safety needs. All batches are row-major.
 */

import type { NativeBackendName, NativeHandle, TaskControl } from './native.d.ts'

export type NativePrecision = 'float32' | 'bfloat16'
export type NativeDirection = 'text-to-image' | 'image-to-text'

/** Where a model's weights live and how they are stored. `ref` is the scalar oracle, for tests. */
export interface NativeModelOptions {
  backend: NativeBackendName
  precision: NativePrecision
}

export interface NativeTransformerConfig {
  layers: number
  hidden: number
  heads: number
  textVocab: number
  imageVocab: number
  textLength: number
  grid: number
  kernel: number
  fullAttention: boolean
  /** The attention of every layer by its place in PATTERNS; empty: by the paper's rule, or full. */
  patterns: number[]
}

export interface NativeGeneratorConfig extends NativeTransformerConfig {
  modality: boolean
  causalText: boolean
  textStartsImage: boolean
  repeatedStart: boolean
  wrappedWindow: boolean
  sandwichNorm: boolean
  doubleFinalNorm: boolean
  paddingSeen: boolean
  /** 0: none. */
  paddingIds: number
}

export interface NativeMatcherConfig extends NativeTransformerConfig {
  dim: number
}

export interface NativeDrawOptions {
  /** 0 to 2^53 - 1. */
  seed: number
  /** 0: greedy. */
  temperature: number
  /** 0: off. */
  topK: number
  /** 1: off. */
  topP: number
}

/** `text` B x T, `valid` B x T, `image` B x G*G. */
export type NativeBatch = [text: Int32Array, valid: Uint8Array, image: Int32Array, batch: number]
/** 1 where describing is to predict the token; none: all that are valid but CLS. */
export type NativeTarget = Uint8Array | undefined

export interface NativeGenerator extends NativeHandle {
  readonly parameterCount: number
  readonly device: string
  readonly precision: NativePrecision
  forward(
    ...args: [...NativeBatch, target: NativeTarget, direction: NativeDirection, control?: TaskControl]
  ): Promise<{ logits: Float32Array; shape: [number, number, number]; loss: number; rowLosses: Float32Array }>
  /** The gradients of this batch alone, by weight name, in the layout of the checkpoint. */
  gradients(
    ...args: [...NativeBatch, target: NativeTarget, direction: NativeDirection, control?: TaskControl]
  ): Promise<{ loss: number; names: string[]; gradients: Float32Array[] }>
  /** Writes weights (matrices in `precision`) as one safetensors file, atomically. */
  save(path: string, precision: NativePrecision, control?: TaskControl): Promise<void>
}

/** What the pairs of a batch came to against each other. */
export interface NativeComparison {
  /** InfoNCE, the mean of both directions. */
  loss: number
  /** Shares of pictures, and of texts, whose own other half is the nearest. */
  imageToTextAccuracy: number
  textToImageAccuracy: number
  temperature: number
}

export interface NativeMatcher extends NativeHandle {
  readonly parameterCount: number
  readonly device: string
  readonly precision: NativePrecision
  /** Vectors of unit length, `batch` x dim. */
  embedImages(image: Int32Array, batch: number, control?: TaskControl): Promise<Float32Array>
  embedTexts(text: Int32Array, valid: Uint8Array, batch: number, control?: TaskControl): Promise<Float32Array>
  compare(...args: [...NativeBatch, control?: TaskControl]): Promise<NativeComparison>
  save(path: string, precision: NativePrecision, control?: TaskControl): Promise<void>
}

export interface NativeImageSession extends NativeHandle {
  /** At most `count` tokens more; `ERR_VILG_BUSY` while another step runs. Stopped, it goes on where it was. `tokens` rows x n, -1 where not yet drawn; `logProbabilities` a row each. */
  step(
    count: number,
    control?: TaskControl,
  ): Promise<{ position: number; tokens: Int32Array; logProbabilities: Float64Array }>
}

export interface NativeTextSession extends NativeHandle {
  step(count: number, control?: TaskControl): Promise<{ position: number; done: boolean }>
  /** Without CLS, given tokens and SEP, never empty; beams come best first. `logProbability` is that among the tokens that may come at each place. */
  texts(): { tokens: Int32Array; logProbability: number; ended: boolean }[]
}

export type NativeImageTokenizerConfig = NativeVqganConfig | NativeDvaeConfig

export interface NativeVqganConfig {
  model: 'vqgan'
  quantizer: 'nearest' | 'gumbel'
  resolution: number
  channels: number
  multipliers: number[]
  residualBlocks: number
  attentionResolutions: number[]
  latentChannels: number
  codebookSize: number
  codebookDim: number
  wavelet: boolean
}

export interface NativeDvaeConfig {
  model: 'dvae'
  resolution: number
  hidden: number
  initial: number
  blocksPerGroup: number
  groups: number
  codebookSize: number
  epsilon: number
}

export interface NativeImageTokenizer extends NativeHandle {
  readonly parameterCount: number
  readonly device: string
  readonly precision: NativePrecision
  /** `images` B x 3 x S x S in [-1, 1]. */
  encode(
    images: Float32Array,
    count: number,
    control?: TaskControl,
  ): Promise<{ indices: Int32Array; prequant: Float32Array }>
  decode(indices: Int32Array, count: number, control?: TaskControl): Promise<Float32Array>
  /** Losses (model.md section 6, by term) and gradients of this batch alone; of a vqgan. */
  gradients(
    images: Float32Array,
    count: number,
    weights: NativeTokenizerLossWeights,
    control?: TaskControl,
  ): Promise<{ losses: NativeTokenizerLosses; names: string[]; gradients: Float32Array[] }>
  save(path: string, precision: NativePrecision, control?: TaskControl): Promise<void>
}

export interface NativeTokenizerLossWeights {
  /** Mean squared error of the picture. */
  reconstruction: number
  /** Mean absolute error of the picture. */
  absolute: number
  /** |sg[z] - E(x)|^2: moves the encoder. */
  commitment: number
  /** |sg[E(x)] - z|^2: moves the codebook. */
  codebook: number
}
export interface NativeTokenizerLosses {
  /** The weighted sum. */
  total: number
  reconstruction: number
  absolute: number
  commitment: number
  codebook: number
}

export interface NativeOptimizerOptions {
  beta1: number
  beta2: number
  epsilon: number
  weightDecay: number
  /** 0: off. */
  clipNorm: number
  /** The first with a pattern for a weight's name, in which * stands for any characters, decides; scale 0 freezes. */
  groups: { weights: string[]; learningRateScale: number; weightDecay?: number }[]
  /** The type of the products; weights and states are float32. */
  compute: NativePrecision
  /** Layers keep their input alone and run again when gradients arrive. */
  recompute: boolean
}

/**
 * Does one thing at a time: a second call is `ERR_VILG_BUSY`, thrown at once. Other work on the same model waits for its turn or lets this
 * one wait. A call that gathers gradients and rejects, stopped before it began or not, leaves none behind, earlier ones included.
 */
interface NativeTrainer extends NativeHandle {
  readonly steps: number
  /** One AdamW update from what was accumulated; `applied` is false where the gradient was not finite (nothing changed). */
  apply(learningRate: number, control?: TaskControl): Promise<{ gradientNorm: number; applied: boolean }>
  /** Everything a bit-exact continuation needs besides the configuration (weights, moments, counters), as one safetensors file. */
  saveState(path: string, control?: TaskControl): Promise<void>
  loadState(path: string, control?: TaskControl): Promise<void>
}

export interface NativeGeneratorTrainer extends NativeTrainer {
  /** Adds `scale` times the gradient of this batch, both directions; a direction of weight 0 is left out. */
  accumulate(
    ...args: [
      ...NativeBatch,
      target: NativeTarget,
      options: {
        textToImageWeight: number
        imageToTextWeight: number
        labelSmoothing: number
        zLoss: number
      },
      scale: number,
      control?: TaskControl,
    ]
  ): Promise<{ textToImage: number; imageToText: number }>
}

export interface NativeMatcherTrainer extends NativeTrainer {
  /** Adds `scale` times the gradient of this batch, whose pairs are compared with each other. */
  accumulate(...args: [...NativeBatch, scale: number, control?: TaskControl]): Promise<NativeComparison>
}

/** What VQGAN training may add. */
export interface NativeVqganTrainingOptions {
  /** A file with the weights of LPIPS. */
  perceptualWeights?: string
  discriminator?: { channels: number; layers: number; seed: number }
  /** The codebook as moving averages instead of by gradient. */
  codebookAverages?: { decay: number; epsilon: number }
  /** What a code's rate in nats weighs beside its squared distance. */
  codebookRate?: { weight: number; decay: number }
}

export interface NativeVqganTrainingWeights extends NativeTokenizerLossWeights {
  perceptual?: number
  /** 0, or none: the discriminator is left as it is. */
  discriminator?: number
}

export interface NativeAdversaryLosses {
  perceptual: number
  /** Minus the mean logit of reconstructions. */
  adversarial: number
  /** What the adversarial loss was multiplied by. */
  adaptiveWeight: number
  /** The discriminator's own. */
  discriminator: number
  realLogit: number
  fakeLogit: number
}

export interface NativeImageTokenizerTrainer extends NativeTrainer {
  accumulate(
    images: Float32Array,
    count: number,
    weights: NativeVqganTrainingWeights,
    scale: number,
    control?: TaskControl,
  ): Promise<{
    losses: NativeTokenizerLosses
    adversary: NativeAdversaryLosses
    perplexity: number
    codesUsed: number
  }>
  /** What LPIPS and the discriminator, in evaluation mode, say of pictures and their reconstructions; 0 without them. */
  measure(
    images: Float32Array,
    reconstructions: Float32Array,
    count: number,
    control?: TaskControl,
  ): Promise<NativeAdversaryLosses>
  /** Codes that no vector of the last `steps` updates chose are replaced by vectors of the last batch; how many were. */
  revive(steps: number, seed: number, control?: TaskControl): Promise<number>
  /** Sets the codebook to encoder outputs of this batch (repeated with noise where there are too few). */
  initializeCodebook(images: Float32Array, count: number, seed: number, control?: TaskControl): Promise<void>
}

export interface NativeDvaeLossOptions {
  /** Of the KL term in the evidence lower bound. */
  divergenceWeight: number
  temperature: number
  /** Straight through. */
  hard: boolean
  seed: number
  /** Keeps the draws of one seed apart, 0 to 2^32 - 1. */
  draw: number
}

export interface NativeDvaeLosses {
  total: number
  /** Minus the log-likelihood of a pixel's value. */
  likelihood: number
  /** KL of a code's distribution from the uniform one. */
  divergence: number
  /** Mean squared error of the picture, not trained on. */
  reconstruction: number
}

export interface NativeDvaeTrainer extends NativeTrainer {
  accumulate(
    images: Float32Array,
    count: number,
    options: NativeDvaeLossOptions,
    scale: number,
    control?: TaskControl,
  ): Promise<{ losses: NativeDvaeLosses; perplexity: number; codesUsed: number }>
}

export interface NativeModels {
  createGenerator(
    config: NativeGeneratorConfig,
    options: NativeModelOptions,
    seed: number,
    control?: TaskControl,
  ): Promise<NativeGenerator>
  loadGenerator(
    config: NativeGeneratorConfig,
    options: NativeModelOptions,
    path: string,
    control?: TaskControl,
  ): Promise<NativeGenerator>
  /** Candidate r draws from the random stream firstStream + r. `text` and `valid` are one prompt (T). */
  createImageSession(
    generator: NativeGenerator,
    text: Int32Array,
    valid: Uint8Array,
    rows: number,
    firstStream: number,
    draw: NativeDrawOptions,
  ): NativeImageSession
  /** `given` come after `cls` in any case; `banned` are never drawn, nor is `sep` as the first token after them. */
  createTextSession(
    generator: NativeGenerator,
    image: Int32Array,
    rows: number,
    options: {
      beamSearch: boolean
      lengthPenalty: number
      cls: number
      sep: number
      banned: Int32Array
      given: Int32Array
    },
    draw: NativeDrawOptions,
  ): NativeTextSession
  createImageTokenizer(
    config: NativeImageTokenizerConfig,
    options: NativeModelOptions,
    seed: number,
    control?: TaskControl,
  ): Promise<NativeImageTokenizer>
  loadImageTokenizer(
    config: NativeImageTokenizerConfig,
    options: NativeModelOptions,
    path: string,
    control?: TaskControl,
  ): Promise<NativeImageTokenizer>
  createMatcher(
    config: NativeMatcherConfig,
    options: NativeModelOptions,
    seed: number,
    control?: TaskControl,
  ): Promise<NativeMatcher>
  loadMatcher(
    config: NativeMatcherConfig,
    options: NativeModelOptions,
    path: string,
    control?: TaskControl,
  ): Promise<NativeMatcher>
  createMatcherTrainer(matcher: NativeMatcher, options: NativeOptimizerOptions): NativeMatcherTrainer
  createGeneratorTrainer(generator: NativeGenerator, options: NativeOptimizerOptions): NativeGeneratorTrainer
  /** Of a vqgan. */
  createImageTokenizerTrainer(
    tokenizer: NativeImageTokenizer,
    options: NativeOptimizerOptions,
    training?: NativeVqganTrainingOptions,
  ): NativeImageTokenizerTrainer
  createDvaeTrainer(tokenizer: NativeImageTokenizer, options: NativeOptimizerOptions): NativeDvaeTrainer
}
