import type { NativeImageTokenizerConfig } from '../../types/native-models.d.ts'
import { expectBoolean, expectInteger, expectOneOf, outOfRange, typeMismatch } from '../validate.ts'
import { checkConfigKeys, type ConfigKeys } from './config-file.ts'
import { checkDvaeConfig, type DvaeConfig } from './dvae-config.ts'

/**
 * How vectors become codes: `nearest` takes the code at the smallest Euclidean distance, `gumbel` the largest of a 1 x 1 projection's
 * logits, without noise.
 */
export const QUANTIZERS = Object.freeze(['nearest', 'gumbel'] as const)
/** One of {@link QUANTIZERS}. */
export type Quantizer = (typeof QUANTIZERS)[number]

/** What an image tokenizer is: the `config.json` of its folder. */
export type ImageTokenizerConfig = VqganConfig | DvaeConfig

/** An image tokenizer like those of taming-transformers. */
export interface VqganConfig {
  /** What kind of model the folder holds; always written to `config.json`. */
  model?: 'vqgan'
  quantizer: Quantizer
  /** Side of its pictures in pixels, a multiple of 2^(levels - 1); at most 16384. */
  resolution: number
  /** Channels at full size, a multiple of 32. */
  channels: number
  /** Of `channels`, a level each: from full size, each level after the first at half the side of the one before. */
  multipliers: readonly number[]
  /** Residual blocks a level of the encoder; the decoder has one more. */
  residualBlocks: number
  /** Sides of the levels that have attention. */
  attentionResolutions: readonly number[]
  /** Channels between encoder and quantizer; equal to `codebookDim` with the gumbel quantizer. */
  latentChannels: number
  /** Codes: image tokens are 0 to codebookSize - 1. */
  codebookSize: number
  /** Elements of a code. */
  codebookDim: number
  /**
   * The decoder gives the Haar wavelet transform of pictures of twice the side, as that of ru-dalle's DWT file does; false unless given.
   * Such a tokenizer encodes and decodes, and is not trained.
   */
  wavelet?: boolean
}

const keys: ConfigKeys = {
  known: [
    'model',
    'quantizer',
    'resolution',
    'channels',
    'multipliers',
    'residualBlocks',
    'attentionResolutions',
    'latentChannels',
    'codebookSize',
    'codebookDim',
    'wavelet',
  ],
  unsupported: [],
}

/**
 * Checks an image tokenizer's configuration and returns a copy of it with every field. One without `model` is a vqgan's.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT (TypeError, RangeError) for fields that are missing, unknown or out of range
 */
export function checkImageTokenizerConfig(config: unknown): Readonly<Required<ImageTokenizerConfig>> {
  const isDvae = (config as { model?: unknown } | undefined | null)?.model === 'dvae'
  return isDvae ? checkDvaeConfig(config) : checkVqganConfig(config)
}

/** The same for a vqgan. */
export function checkVqganConfig(config: unknown): Readonly<Required<VqganConfig>> {
  const name = 'the image tokenizer config'
  checkConfigKeys(name, config, keys)
  const given = config as VqganConfig
  const size = (key: keyof VqganConfig, max: number) =>
    expectInteger(`${key} of ${name}`, given[key], { min: 1, max })
  const sizes = (key: 'multipliers' | 'attentionResolutions', max: number) => {
    const list: unknown = given[key]
    if (!Array.isArray(list)) throw typeMismatch(`${key} of ${name}`, 'an array of integers', list)
    const checked = list.map((one, i) => expectInteger(`${key}[${i}] of ${name}`, one, { min: 1, max }))
    return Object.freeze(checked)
  }
  const checked = {
    model: expectOneOf(`model of ${name}`, given.model ?? 'vqgan', ['vqgan', 'dvae']) as 'vqgan',
    quantizer: expectOneOf(`quantizer of ${name}`, given.quantizer, QUANTIZERS),
    resolution: size('resolution', 2 ** 14),
    channels: size('channels', 2 ** 14),
    multipliers: sizes('multipliers', 64),
    residualBlocks: size('residualBlocks', 64),
    attentionResolutions: sizes('attentionResolutions', 2 ** 14),
    latentChannels: size('latentChannels', 2 ** 14),
    codebookSize: size('codebookSize', 2 ** 24),
    codebookDim: size('codebookDim', 2 ** 14),
    wavelet: expectBoolean(`wavelet of ${name}`, given.wavelet ?? false),
  }
  checkTogether(name, checked)
  return Object.freeze(checked)
}

function checkTogether(name: string, config: Required<VqganConfig>): void {
  const { channels, multipliers, resolution, attentionResolutions, quantizer, latentChannels } = config
  const refuse = (key: keyof VqganConfig, expected: string) => {
    throw outOfRange(`${key} of ${name}`, expected, config[key])
  }
  if (channels % 32 !== 0) refuse('channels', 'a multiple of 32, the groups of its norms,')
  if (multipliers.length < 1 || multipliers.length > 8) refuse('multipliers', '1 to 8 levels')
  if (resolution % reductionOf(config) !== 0) {
    refuse('resolution', `a multiple of ${reductionOf(config)}, 2 a level after the first,`)
  }
  const sides = multipliers.map((_, level) => resolution / 2 ** level)
  const stray = attentionResolutions.find((side) => !sides.includes(side))
  if (stray !== undefined) {
    throw outOfRange(`attentionResolutions of ${name}`, `sides of levels (${sides.join(', ')})`, stray)
  }
  if (quantizer === 'gumbel' && latentChannels !== config.codebookDim) {
    refuse('latentChannels', `codebookDim (${config.codebookDim}), as the gumbel quantizer needs,`)
  }
}

/** Pixels of a side to one token. */
export function reductionOf(config: Pick<VqganConfig, 'multipliers'> | Pick<DvaeConfig, 'groups'>): number {
  return 2 ** (('multipliers' in config ? config.multipliers.length : config.groups) - 1)
}

/** Side of the pictures that tokens are decoded to, which is that of the pictures they are made of unless the decoder gives wavelets. */
export function decodedSideOf(config: ImageTokenizerConfig): number {
  const { resolution = 256 } = config
  return config.model !== 'dvae' && config.wavelet === true ? 2 * resolution : resolution
}

/** The configuration as the native side takes it. */
export function nativeImageTokenizerConfig(
  config: Required<ImageTokenizerConfig>,
): NativeImageTokenizerConfig {
  if (config.model === 'dvae') return { ...config }
  const { multipliers, attentionResolutions, ...rest } = config
  return { ...rest, multipliers: [...multipliers], attentionResolutions: [...attentionResolutions] }
}
