import type { NativeGeneratorConfig } from '../../types/native-models.d.ts'
import { expectInteger, expectOneOf, outOfRange } from '../validate.ts'
import { checkConfigKeys, type ConfigKeys } from './config-file.ts'

/** Who attends to whom: the row, column and convolutional patterns of ERNIE-ViLG 3.1.2, or everybody. */
export const ATTENTIONS = Object.freeze(['sparse', 'full'] as const)
/** One of {@link ATTENTIONS}. */
export type Attention = (typeof ATTENTIONS)[number]

/** Sizes of streams of text and image tokens, and of the blocks that they go through. */
export interface StreamConfig {
  /** Transformer layers, 1 to 1000. */
  layers: number
  /** Hidden units, a multiple of `heads`, up to 65536. */
  hidden: number
  /** Attention heads. */
  heads: number
  /** Ids of text tokens: 0 to textVocab - 1. */
  textVocab: number
  /** Ids of image tokens: 0 to imageVocab - 1, the entries of the image tokenizer's codebook. */
  imageVocab: number
  /** Text tokens with CLS and SEP, padded with PAD; 2 to 65536. */
  textLength: number
  /** Image tokens a side, 1 to 256; a picture is grid x grid tokens. */
  grid: number
  /** Side of the convolutional layers' window, odd, up to 511. */
  kernel: number
  /** `sparse` unless given. */
  attention?: Attention
}

/** What a generator is: the `config.json` of its folder. */
export interface GeneratorConfig extends StreamConfig {
  /** What kind of model the folder holds; always written to `config.json`. */
  model?: 'ernie-vilg-generator'
}

/** The keys of {@link StreamConfig}. */
export const STREAM_KEYS = [
  'layers',
  'hidden',
  'heads',
  'textVocab',
  'imageVocab',
  'textLength',
  'grid',
  'kernel',
  'attention',
] as const satisfies readonly (keyof StreamConfig)[]

const keys: ConfigKeys = {
  known: ['model', ...STREAM_KEYS],
  // stabilisers of docs/model.md section 3, off by default
  unsupported: ['sandwichNorm', 'scoreRelaxation', 'latentHead'],
}

/**
 * Checks a generator's configuration and returns a copy of it with every field.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT (TypeError, RangeError) for fields that are missing, unknown or out of range;
 *   ERR_VILG_UNSUPPORTED for features that this version does not have
 */
export function checkGeneratorConfig(config: unknown): Readonly<Required<GeneratorConfig>> {
  const name = 'the generator config'
  checkConfigKeys(name, config, keys)
  const given = config as GeneratorConfig
  return Object.freeze({
    model: expectOneOf(`model of ${name}`, given.model ?? 'ernie-vilg-generator', ['ernie-vilg-generator']),
    ...checkStreamConfig(name, given),
  })
}

/** Checks the sizes of a configuration, which is called `name` in errors, and fills in every field. */
export function checkStreamConfig(name: string, given: StreamConfig): Required<StreamConfig> {
  const size = (key: keyof StreamConfig, max: number, min = 1) =>
    expectInteger(`${key} of ${name}`, given[key], { min, max })
  const checked = {
    layers: size('layers', 1000),
    hidden: size('hidden', 2 ** 16),
    heads: size('heads', 2 ** 16),
    textVocab: size('textVocab', 2 ** 24),
    imageVocab: size('imageVocab', 2 ** 24),
    textLength: size('textLength', 2 ** 16, 2),
    grid: size('grid', 256),
    kernel: size('kernel', 511),
    attention: expectOneOf(`attention of ${name}`, given.attention ?? 'sparse', ATTENTIONS),
  }
  const { hidden, heads, kernel } = checked
  if (hidden % heads !== 0) throw outOfRange(`hidden of ${name}`, `a multiple of heads (${heads})`, hidden)
  if (kernel % 2 === 0) throw outOfRange(`kernel of ${name}`, 'an odd number', kernel)
  return checked
}

/** The configuration as the native side takes it. */
export function nativeGeneratorConfig(config: Required<GeneratorConfig>): NativeGeneratorConfig {
  const { model: _, attention, ...sizes } = config
  return { ...sizes, fullAttention: attention === 'full' }
}
