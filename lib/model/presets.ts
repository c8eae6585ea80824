import { expectOneOf } from '../validate.ts'
import { checkGeneratorConfig, type GeneratorConfig } from './generator-config.ts'
import { checkDvaeConfig, type DvaeConfig } from './dvae-config.ts'
import { checkVqganConfig, type VqganConfig } from './image-tokenizer-config.ts'

// ERNIE-ViLG 4.1 and 5. The text vocabulary is that of BERT's Chinese models; the papers do not give theirs.
const generator = {
  textVocab: 21128,
  imageVocab: 8192,
  textLength: 127,
  grid: 32,
  kernel: 11,
} as const

/** The configurations that have names. */
export const PRESETS = Object.freeze({
  /** The 10-billion-parameter generator of ERNIE-ViLG 4.1: 48 layers, 4096 hidden units, 64 heads, 256 x 256 pictures. */
  'ernie-vilg-10b': checkGeneratorConfig({ ...generator, layers: 48, hidden: 4096, heads: 64 }),
  /** The lite generator of ERNIE-ViLG 5: 24 layers, 1024 hidden units, 16 heads. */
  'ernie-vilg-300m': checkGeneratorConfig({ ...generator, layers: 24, hidden: 1024, heads: 16 }),
  /** The image tokenizer of ERNIE-ViLG 4.1: 256 x 256 pixels to 32 x 32 tokens of 8192 codes. */
  'vqgan-f8-8192': checkVqganConfig({
    quantizer: 'nearest',
    resolution: 256,
    channels: 128,
    multipliers: [1, 1, 2, 4],
    residualBlocks: 2,
    attentionResolutions: [32],
    latentChannels: 256,
    codebookSize: 8192,
    codebookDim: 256,
  }),
  /** DALL-E's image tokenizer: 256 x 256 pixels to 32 x 32 tokens of 8192 codes. */
  'dvae-f8-8192': checkDvaeConfig({
    model: 'dvae',
    resolution: 256,
    hidden: 256,
    initial: 128,
    blocksPerGroup: 2,
    groups: 4,
    codebookSize: 8192,
    epsilon: 0.1,
  }),
})

/** A name in {@link PRESETS}. */
export type PresetName = keyof typeof PRESETS
/** What a preset is the configuration of. */
export type PresetConfig<Name extends PresetName> = Name extends `vqgan-${string}`
  ? VqganConfig
  : Name extends `dvae-${string}`
    ? DvaeConfig
    : GeneratorConfig

/**
 * A copy of a named configuration, for `Generator.create` or `ImageTokenizer.create`; change what should differ:
 * `{ ...preset('ernie-vilg-300m'), textVocab: tokenizer.vocabSize }`.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT (RangeError) for a name that there is not, with those that there are
 */
export function preset<Name extends PresetName>(name: Name): PresetConfig<Name> {
  const names = Object.keys(PRESETS) as PresetName[]
  return structuredClone(PRESETS[expectOneOf('name', name, names)]) as PresetConfig<Name>
}
