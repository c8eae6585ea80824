import type { NativeGeneratorConfig } from '../../types/native-models.d.ts'
import { type Pattern, PATTERNS } from '../kernels.ts'
import { expectBoolean, expectInteger, expectOneOf, outOfRange } from '../validate.ts'
import { checkConfigKeys, type ConfigKeys } from './config-file.ts'

/** Who attends to whom: the row, column and convolutional patterns of ERNIE-ViLG 3.1.2, or everybody. */
export const ATTENTIONS = Object.freeze(['sparse', 'full'] as const)
/** One of {@link ATTENTIONS}. */
export type Attention = (typeof ATTENTIONS)[number]

/** What stands before the first image token: a token of its own (IMG), or the last one of the text. */
export const IMAGE_STARTS = Object.freeze(['token', 'text'] as const)
/** One of {@link IMAGE_STARTS}. */
export type ImageStart = (typeof IMAGE_STARTS)[number]

/** Whether PAD tokens are nobody's business, or tokens like any other. */
export const PADDINGS = Object.freeze(['hidden', 'seen'] as const)
/** One of {@link PADDINGS}. */
export type Padding = (typeof PADDINGS)[number]

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
  /** `sparse` unless given; or the pattern of each layer. */
  attention?: Attention | readonly Pattern[]
}

/** What generators of other families have in other ways (docs/model.md, "Generators of other families"). None of it is in ERNIE-ViLG. */
export interface GeneratorVariant {
  /** Tokens are told of which half they are; true unless given. */
  modality?: boolean
  /** When drawing, text tokens see those before them only; false unless given. */
  causalText?: boolean
  /**
   * `token` unless given. `text`: there is no IMG, the last of the `textLength` text tokens has its place; such a generator draws and does
   * not describe, and needs `causalText` and `padding: 'seen'`.
   */
  imageStart?: ImageStart
  /**
   * The text begins with its first token twice, and the stream ends one token earlier: for attention the last text token has the grid's
   * first place and each image token stands one place later. False unless given; needs `imageStart: 'text'`.
   */
  repeatedStart?: boolean
  /** The convolutional window goes on at the opposite edges of the grid; false unless given. Whole pictures at once: on the CPU only. */
  wrappedWindow?: boolean
  /** Two more norms in each block, on what its branches add (CogView 2.4); false unless given. */
  sandwichNorm?: boolean
  /** One more norm before the heads; false unless given. */
  doubleFinalNorm?: boolean
  /** `hidden` unless given: nobody sees PAD. */
  padding?: Padding
  /** Above 0: PAD, which is id 0, becomes `paddingIds` + its position, an id for each. 0 unless given; needs `padding: 'seen'`. */
  paddingIds?: number
}

/** What a generator is: the `config.json` of its folder. */
export interface GeneratorConfig extends StreamConfig, GeneratorVariant {
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

const VARIANT_KEYS = [
  'modality',
  'causalText',
  'imageStart',
  'repeatedStart',
  'wrappedWindow',
  'sandwichNorm',
  'doubleFinalNorm',
  'padding',
  'paddingIds',
] as const satisfies readonly (keyof GeneratorVariant)[]

const keys: ConfigKeys = {
  known: ['model', ...STREAM_KEYS, ...VARIANT_KEYS],
  unsupported: ['latentHead'],
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
    ...checkVariant(name, given),
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
    attention: checkAttention(`attention of ${name}`, given),
  }
  const { hidden, heads, kernel } = checked
  if (hidden % heads !== 0) throw outOfRange(`hidden of ${name}`, `a multiple of heads (${heads})`, hidden)
  if (kernel % 2 === 0) throw outOfRange(`kernel of ${name}`, 'an odd number', kernel)
  return checked
}

function checkAttention(name: string, { attention = 'sparse', layers }: StreamConfig) {
  if (!Array.isArray(attention)) return expectOneOf(name, attention as Attention, ATTENTIONS)
  if (attention.length !== layers) throw outOfRange(name, `a pattern for each of ${layers} layers`, attention)
  return Object.freeze(attention.map((one, i) => expectOneOf(`attention[${i}]`, one, PATTERNS)))
}

function checkVariant(name: string, given: GeneratorConfig): Required<GeneratorVariant> {
  const flag = (key: keyof GeneratorVariant, otherwise = false) =>
    expectBoolean(`${key} of ${name}`, given[key] ?? otherwise)
  const checked = {
    modality: flag('modality', true),
    causalText: flag('causalText'),
    imageStart: expectOneOf(`imageStart of ${name}`, given.imageStart ?? 'token', IMAGE_STARTS),
    repeatedStart: flag('repeatedStart'),
    wrappedWindow: flag('wrappedWindow'),
    sandwichNorm: flag('sandwichNorm'),
    doubleFinalNorm: flag('doubleFinalNorm'),
    padding: expectOneOf(`padding of ${name}`, given.padding ?? 'hidden', PADDINGS),
    paddingIds: expectInteger(`paddingIds of ${name}`, given.paddingIds ?? 0, { min: 0, max: 2 ** 24 }),
  }
  const { causalText, imageStart, repeatedStart, padding, paddingIds } = checked
  if (imageStart === 'text' && !(causalText && padding === 'seen')) {
    throw outOfRange(
      `imageStart of ${name}`,
      "'token', or causalText and padding: 'seen' with it,",
      imageStart,
    )
  }
  if (repeatedStart && imageStart !== 'text') {
    throw outOfRange(`repeatedStart of ${name}`, "false, or imageStart: 'text' with it,", repeatedStart)
  }
  const most = given.textVocab - given.textLength
  if (paddingIds > 0 && (padding !== 'seen' || paddingIds > most)) {
    const expected = `0, or up to textVocab - textLength (${most}) and padding: 'seen' with it,`
    throw outOfRange(`paddingIds of ${name}`, expected, paddingIds)
  }
  return checked
}

/** The patterns of layers as the native side takes them. */
export function nativeAttention(attention: Attention | readonly Pattern[]) {
  return {
    fullAttention: attention === 'full',
    patterns: typeof attention === 'string' ? [] : attention.map((one) => PATTERNS.indexOf(one)),
  }
}

/** The configuration as the native side takes it. */
export function nativeGeneratorConfig(config: Required<GeneratorConfig>): NativeGeneratorConfig {
  const { model: _, attention, imageStart, padding, ...rest } = config
  return {
    ...rest,
    ...nativeAttention(attention),
    textStartsImage: imageStart === 'text',
    paddingSeen: padding === 'seen',
  }
}
