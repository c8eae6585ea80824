import { resolve } from 'node:path'
import { expectBoolean, expectInteger, expectString, rejectUnknownKeys } from '../validate.ts'
import { type Annealed, resolveAnnealed } from './annealing.ts'
import { belowOne, positive, resolveWeights } from './checks.ts'

/** Weights of the losses of an image tokenizer. */
export interface TokenizerLossWeights {
  /** Mean squared error of the picture. */
  reconstruction?: number
  /** Mean absolute error of the picture. */
  absolute?: number
  /** Pulls the encoder's vectors to their codes. */
  commitment?: number
  /** Pulls the codes to the vectors that chose them. What taming-transformers calls its legacy form is 0.25, with `commitment` 1. */
  codebook?: number
}

/** The perceptual loss LPIPS (Zhang et al. 2018). */
export interface PerceptualOptions {
  /**
   * A safetensors file with the convolutions of VGG16 by torchvision's names (`features.0.weight` and so on) and LPIPS's linear heads by
   * lpips' names (`lin0.model.1.weight` and so on). They are not part of this library.
   */
  weights: string
  /** 1 unless given. */
  weight?: number
}

/** A PatchGAN discriminator (Esser et al. 2021). */
export interface DiscriminatorOptions {
  /** Updates before it takes part; 0 unless given. taming-transformers waits for 10,000 to 250,000. */
  start?: number
  /** Of the adversarial loss, on top of the adaptive weight; above 0; 0.8 unless given. */
  weight?: number
  /** Channels of its first layer; 64 unless given. */
  channels?: number
  /** 3 unless given; the pictures' side is at least 2^(layers + 2). */
  layers?: number
}

/** How the codebook follows the encoder without a gradient (van den Oord et al. 2017, appendix A.1). */
export interface CodebookAveragesOptions {
  /** Share of the old averages that an update keeps, from 0 to below 1; 0.99 unless given. */
  decay?: number
  /** Laplace smoothing of the counts, above 0; 1e-5 unless given. */
  epsilon?: number
}

/**
 * A codebook whose codes cost what it takes to say them (entropy-constrained vector quantisation, Chou, Lookabaugh and Gray 1989): a vector
 * chooses the code with the least squared distance + `weight` x -ln of the code's frequency. Places with nothing of their own to tell,
 * such as a white background, then share few codes, and pictures as tokens are easier to learn to draw. Takes the last dimension of the
 * codebook; the tokenizer stays a plain one.
 */
export interface CodebookRateOptions {
  /** In squared distance a nat, above 0. */
  weight: number
  /** Share of the old frequencies that an update keeps, below 1; 0.99 unless given. */
  decay?: number
}

/** Options that only the training of a vqgan has. */
export interface VqganTrainerOptions {
  lossWeights?: TokenizerLossWeights
  /** No perceptual loss unless given. */
  perceptual?: PerceptualOptions
  /** No adversarial loss unless given. */
  discriminator?: DiscriminatorOptions
  /** The codebook as moving averages, which `lossWeights.codebook` does not concern; by gradient unless given. */
  codebookAverages?: CodebookAveragesOptions
  /** Makes codes that are seldom chosen dearer; all cost the same unless given. */
  codebookRate?: CodebookRateOptions
  /** Codes that none of this many steps chose are replaced by vectors of the batch; 0 never does. */
  reviveAfter?: number
  /** Whether the codebook begins as vectors that the encoder gives for the first batch. */
  initializeCodebook?: boolean
}

/** Options that only the training of a dvae has. */
export interface DvaeTrainerOptions {
  /** Of the Gumbel softmax, above 0: the lower, the harder the codes. */
  temperature?: Annealed
  /** Weight of the KL term in the evidence lower bound of a picture. */
  divergenceWeight?: Annealed
  /** Whether the decoder gets one code a place, and the encoder the gradient as if it had got the soft mixture. */
  straightThrough?: boolean
}

/** Those of a vqgan with every value; undefined is what the training goes without. */
export interface ResolvedVqganOptions {
  lossWeights: Required<TokenizerLossWeights>
  perceptual?: Required<PerceptualOptions>
  discriminator?: Required<DiscriminatorOptions>
  codebookAverages?: Required<CodebookAveragesOptions>
  codebookRate?: Required<CodebookRateOptions>
  reviveAfter: number
  initializeCodebook: boolean
}
/** Those of a dvae with every value. */
export type ResolvedDvaeOptions = Required<DvaeTrainerOptions>

/** The options of a vqgan's trainer where none are given. */
export const DEFAULT_VQGAN_OPTIONS = Object.freeze({
  lossWeights: Object.freeze({ reconstruction: 1, absolute: 0, commitment: 1, codebook: 1 }),
  reviveAfter: 0,
  initializeCodebook: true,
} as const satisfies VqganTrainerOptions)

/** The options of a dvae's trainer where none are given: DALL-E's (Ramesh et al. 2021, appendix A.2). */
export const DEFAULT_DVAE_OPTIONS = Object.freeze({
  temperature: Object.freeze({ from: 1, to: 1 / 16, steps: 150_000 }),
  divergenceWeight: Object.freeze({ from: 0, to: 6.6, steps: 5000 }),
  straightThrough: false,
} as const satisfies DvaeTrainerOptions)

/** Checks a vqgan's options, defaults filled in. */
export function resolveVqganOptions(given: VqganTrainerOptions): ResolvedVqganOptions {
  const defaults = DEFAULT_VQGAN_OPTIONS
  const { perceptual, discriminator, codebookAverages, codebookRate } = given
  return {
    lossWeights: resolveWeights('lossWeights', given.lossWeights ?? {}, defaults.lossWeights),
    ...(perceptual === undefined ? {} : { perceptual: resolvePerceptual(perceptual) }),
    ...(discriminator === undefined ? {} : { discriminator: resolveDiscriminator(discriminator) }),
    ...(codebookAverages === undefined ? {} : { codebookAverages: resolveAverages(codebookAverages) }),
    ...(codebookRate === undefined ? {} : { codebookRate: resolveRate(codebookRate) }),
    reviveAfter: expectInteger('reviveAfter', given.reviveAfter ?? defaults.reviveAfter, { min: 0 }),
    initializeCodebook: expectBoolean(
      'initializeCodebook',
      given.initializeCodebook ?? defaults.initializeCodebook,
    ),
  }
}

/** Checks a dvae's options, defaults filled in. */
export function resolveDvaeOptions(given: DvaeTrainerOptions): ResolvedDvaeOptions {
  const { temperature, divergenceWeight, straightThrough } = { ...DEFAULT_DVAE_OPTIONS, ...given }
  return {
    temperature: resolveAnnealed('temperature', temperature, true),
    divergenceWeight: resolveAnnealed('divergenceWeight', divergenceWeight, false),
    straightThrough: expectBoolean('straightThrough', straightThrough),
  }
}

function resolvePerceptual(given: PerceptualOptions): Required<PerceptualOptions> {
  rejectUnknownKeys('perceptual', given, ['weights', 'weight'])
  return {
    // a run may go on from another folder
    weights: resolve(expectString('perceptual.weights', given.weights)),
    weight: positive('perceptual.weight', given.weight ?? 1),
  }
}

function resolveDiscriminator(given: DiscriminatorOptions): Required<DiscriminatorOptions> {
  rejectUnknownKeys('discriminator', given, ['start', 'weight', 'channels', 'layers'])
  return {
    start: expectInteger('discriminator.start', given.start ?? 0, { min: 0 }),
    weight: positive('discriminator.weight', given.weight ?? 0.8),
    channels: expectInteger('discriminator.channels', given.channels ?? 64, { min: 1, max: 4096 }),
    layers: expectInteger('discriminator.layers', given.layers ?? 3, { min: 1, max: 8 }),
  }
}

function resolveAverages(given: CodebookAveragesOptions): Required<CodebookAveragesOptions> {
  rejectUnknownKeys('codebookAverages', given, ['decay', 'epsilon'])
  return {
    decay: belowOne('codebookAverages.decay', given.decay ?? 0.99),
    epsilon: positive('codebookAverages.epsilon', given.epsilon ?? 1e-5),
  }
}

function resolveRate(given: CodebookRateOptions): Required<CodebookRateOptions> {
  rejectUnknownKeys('codebookRate', given, ['weight', 'decay'])
  return {
    weight: positive('codebookRate.weight', given.weight),
    decay: belowOne('codebookRate.decay', given.decay ?? 0.99),
  }
}
