import type { TensorSource } from '../checkpoint/tensor-source.ts'
import { VilgError } from '../errors.ts'
import { checkVqganConfig, reductionOf } from '../model/image-tokenizer-config.ts'
import { imageTokenizerTensors } from '../model/image-tokenizer-tensors.ts'
import {
  checkedSizes,
  type Family,
  type FamilySettings,
  incompatible,
  prefixesOf,
  requireTensors,
  shapeOf,
} from './family.ts'

// All public checkpoints of the family were trained at this size
const usualResolution = 256

const nearestCodebook = 'quantize.embedding.weight'
const gumbelCodebook = 'quantize.embed.weight'

/**
 * VQGAN of taming-transformers, with its nearest and its gumbel quantizer; minDALL-E's and ru-dalle's tokenizers have the same keys, but for
 * ru-dalle's decoder of wavelets (rudalle/vae/decoder_dwt.py), which is a decoder within one.
 */
export const tamingVqgan: Family = {
  title: 'VQGAN of taming-transformers',

  prefixes(source) {
    const found = prefixesOf(source, [nearestCodebook, gumbelCodebook])
    return found.filter((prefix) => source.tensors.has(`${prefix}encoder.conv_in.weight`))
  },

  plan(source, prefix, settings) {
    const sizes = sizesOf(source, prefix)
    const given = givenConfig(source, prefix, settings.config)
    const notes: string[] = []
    const resolution = settings.resolution ?? given?.resolution ?? usualResolution
    if (settings.resolution === undefined && given?.resolution === undefined) {
      notes.push(
        `resolution ${usualResolution}: the weights do not say it, and all public checkpoints have this one`,
      )
    }
    const { attentionLevels, ...rest } = sizes
    const reduction = reductionOf(sizes)
    if (resolution % reduction !== 0) {
      throw incompatible(
        source,
        `expected a resolution in multiples of ${reduction}, as the weights need it, found ${resolution}`,
      )
    }
    const config = checkedSizes(source, () =>
      checkVqganConfig({
        model: 'vqgan',
        ...rest,
        resolution,
        attentionResolutions: [...attentionLevels].map((level) => resolution / 2 ** level),
      }),
    )
    if (given !== undefined) checkAgainst(source, sizes, given)
    const needed = imageTokenizerTensors(sizes)
    const stored = (name: string) => (sizes.wavelet === true ? inWaveletDecoder(name) : name)
    requireTensors(source, prefix, new Map([...needed].map(([name, shape]) => [stored(name), shape])))
    const tensors = new Map([...needed.keys()].map((name) => [name, prefix + stored(name)]))
    return { config, tensors, notes }
  },
}

type Sizes = Parameters<typeof imageTokenizerTensors>[0]

/** Where the wavelet decoder's file has a tensor. */
function inWaveletDecoder(name: string): string {
  return name.replace(/^(decoder\.|post_quant_conv\.)/, 'decoder.$1')
}

/** Everything that the shapes of the weights say. */
function sizesOf(source: TensorSource, prefix: string): Sizes {
  const has = (name: string) => source.tensors.has(prefix + name)
  const shape = (name: string, rank: number) => shapeOf(source, prefix + name, rank)
  if (has('quantize.used')) {
    throw new VilgError(
      'ERR_VILG_UNSUPPORTED',
      `${source.path}: expected a codebook of which all codes are in use, found one with a list of used codes (${prefix}quantize.used)`,
      { path: source.path },
    )
  }
  const channels = shape('encoder.conv_in.weight', 4)[0]!
  const multipliers: number[] = []
  const attentionLevels = new Set<number>()
  for (let level = 0; has(`encoder.down.${level}.block.0.conv1.weight`); level++) {
    const width = shape(`encoder.down.${level}.block.0.conv1.weight`, 4)[0]!
    if (channels === 0 || width % channels !== 0) {
      const text = `expected channels in multiples of ${channels} at every level, found ${width} at level ${level}`
      throw incompatible(source, text)
    }
    multipliers.push(width / channels)
    if (has(`encoder.down.${level}.attn.0.q.weight`)) attentionLevels.add(level)
  }
  let residualBlocks = 0
  while (has(`encoder.down.0.block.${residualBlocks}.conv1.weight`)) residualBlocks++
  const quantizer = has(gumbelCodebook) ? 'gumbel' : 'nearest'
  const [codebookSize, codebookDim] = shape(quantizer === 'gumbel' ? gumbelCodebook : nearestCodebook, 2)
  return {
    quantizer,
    channels,
    multipliers,
    residualBlocks,
    attentionLevels,
    latentChannels: shape('encoder.conv_out.weight', 4)[0]!,
    codebookSize: codebookSize!,
    codebookDim: codebookDim!,
    wavelet: has('decoder.decoder.conv_in.weight'),
  }
}

/** The fields of a `configs/*.yaml` that say what the model is. */
interface GivenConfig {
  resolution: number | undefined
  /** By the names of the file. */
  fields: Record<string, unknown>
}

function givenConfig(
  source: TensorSource,
  prefix: string,
  config: FamilySettings['config'],
): GivenConfig | undefined {
  if (config === undefined) return undefined
  // the transformer's file has those of its first and conditional stage within its own
  const stage = /(first|cond)_stage_model\.$/.exec(prefix)?.[1]
  const path = ['model', 'params', ...(stage === undefined ? [] : [`${stage}_stage_config`, 'params'])]
  const params = path.reduce<unknown>((value, key) => asObject(value)?.[key], config)
  const details = asObject(asObject(params)?.['ddconfig'])
  if (details === undefined) {
    throw incompatible(source, `expected ${path.join('.')}.ddconfig in the configuration file, found none`)
  }
  const { n_embed, embed_dim } = asObject(params)!
  const resolution = details['resolution']
  return {
    resolution: typeof resolution === 'number' ? resolution : undefined,
    fields: { n_embed, embed_dim, ...details },
  }
}

function asObject(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}

/** The configuration file must say what the weights are: another one is a mistake that nobody else would notice. */
function checkAgainst(
  source: TensorSource,
  sizes: Sizes,
  { resolution = usualResolution, fields }: GivenConfig,
): void {
  const sides = sizes.multipliers.map((_, level) => resolution / 2 ** level)
  const wanted: Record<string, unknown> = {
    double_z: false,
    in_channels: 3,
    ch: sizes.channels,
    ch_mult: sizes.multipliers,
    num_res_blocks: sizes.residualBlocks,
    z_channels: sizes.latentChannels,
    // the wavelet decoder's code puts 12 in place of what its file says
    out_ch: 3,
    n_embed: sizes.codebookSize,
    embed_dim: sizes.codebookDim,
    // sides that no level has are without meaning there
    attn_resolutions: [...sizes.attentionLevels].map((level) => sides[level]),
  }
  for (const [key, expected] of Object.entries(wanted)) {
    let found = fields[key]
    if (found === undefined) continue
    if (key === 'attn_resolutions' && Array.isArray(found)) {
      found = sides.filter((side) => (found as unknown[]).includes(side))
    }
    if (JSON.stringify(found) === JSON.stringify(expected)) continue
    const text = `expected ${key} ${JSON.stringify(expected)} in the configuration file, as the weights have it, found ${JSON.stringify(found)}`
    throw incompatible(source, text, { field: key, expected, found })
  }
}
