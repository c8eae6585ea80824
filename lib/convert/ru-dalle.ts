import type { TensorSource } from '../checkpoint/tensor-source.ts'
import type { Pattern } from '../kernels.ts'
import { checkGeneratorConfig, type GeneratorConfig } from '../model/generator-config.ts'
import { expectInteger, expectOneOf } from '../validate.ts'
import {
  checkedSizes,
  type Family,
  incompatible,
  prefixesOf,
  requireTensors,
  shapeOf,
  type TensorOrigin,
} from './family.ts'

// Side of the convolutional window, a constant of ru-dalle's image_attention.py
const kernel = 11
// Heads by hidden units, which the weights do not say: Malevich and its kin, Kandinsky (rudalle/dalle/__init__.py)
const knownHeads: ReadonlyMap<number, number> = new Map([
  [2048, 16],
  [3840, 60],
])

/** The transformers of ru-dalle: Malevich and Kandinsky, and what was made of them. */
export const ruDalle: Family = {
  title: 'ru-dalle',

  prefixes(source) {
    return prefixesOf(source, ['text_pos_embeddings.weight']).filter((prefix) =>
      ['to_logits.1.weight', 'image_row_embeddings.weight'].every((name) =>
        source.tensors.has(prefix + name),
      ),
    )
  },

  plan(source, prefix, { config: given }) {
    const notes: string[] = []
    const sizes = sizesOf(source, prefix)
    checkAgainst(source, sizes, given)
    const heads = headsOf(source, sizes.hidden, given, notes)
    const secondVersion = isSecondVersion(source, given, notes)
    const { layers, hidden, textVocab, imageVocab, textLength, grid, sandwichNorm } = sizes
    const config = checkedSizes(source, () =>
      checkGeneratorConfig({
        layers,
        hidden,
        heads,
        textVocab,
        imageVocab,
        textLength,
        grid,
        kernel,
        attention: attentionOf(layers),
        modality: false,
        causalText: true,
        imageStart: 'text',
        repeatedStart: secondVersion,
        wrappedWindow: secondVersion,
        sandwichNorm,
        doubleFinalNorm: true,
        padding: 'seen',
        paddingIds: textVocab - textLength,
      } satisfies GeneratorConfig),
    )
    return { config, tensors: tensorsOf(source, prefix, sizes, secondVersion), notes }
  },
}

/** What the shapes of the weights say. */
interface Sizes {
  layers: number
  hidden: number
  textVocab: number
  imageVocab: number
  textLength: number
  grid: number
  sandwichNorm: boolean
}

function sizesOf(source: TensorSource, prefix: string): Sizes {
  const shape = (name: string) => shapeOf(source, prefix + name, 2)
  const has = (name: string) => source.tensors.has(prefix + name)
  let layers = 0
  while (has(`transformer.layers.${layers}.input_layernorm.weight`)) layers++
  const [textVocab, hidden] = shape('text_embeddings.weight')
  return {
    layers,
    hidden: hidden!,
    textVocab: textVocab!,
    imageVocab: shape('image_embeddings.weight')[0]!,
    textLength: shape('text_pos_embeddings.weight')[0]! - 1, // one more for the second version's extra BOS
    grid: shape('image_row_embeddings.weight')[0]!,
    sandwichNorm: has('transformer.layers.0.before_first_addition_layernorm.weight'),
  }
}

/** The configuration file must say what the weights are, where it says anything. */
function checkAgainst(source: TensorSource, sizes: Sizes, given: Record<string, unknown> | undefined): void {
  const wanted: Record<string, unknown> = {
    num_layers: sizes.layers,
    hidden_size: sizes.hidden,
    vocab_size: sizes.textVocab,
    image_vocab_size: sizes.imageVocab,
    text_seq_length: sizes.textLength,
    image_tokens_per_dim: sizes.grid,
    cogview_sandwich_layernorm: sizes.sandwichNorm,
  }
  for (const [key, expected] of Object.entries(wanted)) {
    const found = given?.[key]
    if (found === undefined || found === expected) continue
    const text = `expected ${key} ${String(expected)} in the configuration file, as the weights have it, found ${JSON.stringify(found)}`
    throw incompatible(source, text, { field: key, expected, found })
  }
}

function headsOf(
  source: TensorSource,
  hidden: number,
  given: Record<string, unknown> | undefined,
  notes: string[],
): number {
  const said = given?.['num_attention_heads']
  if (said !== undefined)
    return checkedSizes(source, () => expectInteger('num_attention_heads', said, { min: 1 }))
  const heads = knownHeads.get(hidden)
  if (heads === undefined) {
    const text = `expected num_attention_heads in a configuration file, for the weights do not say it and no public model has ${hidden} hidden units, found none`
    throw incompatible(source, text)
  }
  notes.push(
    `${heads} heads: the weights do not say it, and the public models of ${hidden} hidden units have them`,
  )
  return heads
}

function isSecondVersion(
  source: TensorSource,
  given: Record<string, unknown> | undefined,
  notes: string[],
): boolean {
  const said = given?.['hf_version']
  if (said !== undefined)
    return checkedSizes(source, () => expectOneOf('hf_version', said, ['v2', 'v3'])) === 'v2'
  notes.push(
    'hf_version v3: the weights do not say it; for Malevich v2 and Emojich give a configuration file with hf_version: v2',
  )
  return false
}

/** As DalleTransformer has its masks; `sparse` where that is the same, so that it is said by its name. */
function attentionOf(layers: number): GeneratorConfig['attention'] {
  const patterns = Array.from({ length: layers }, (_, i): Pattern => {
    if (i % 4 === 1) return 'column'
    return i === layers - 1 ? 'conv' : 'row'
  })
  return layers % 4 === 2 ? patterns : 'sparse'
}

const blockParts = {
  attention_norm: 'input_layernorm',
  query_key_value: 'attention.query_key_value',
  attention_out: 'attention.dense',
  mlp_norm: 'post_attention_layernorm',
  mlp_in: 'mlp.dense_h_to_4h',
  mlp_out: 'mlp.dense_4h_to_h',
}
const sandwichParts = {
  attention_out_norm: 'before_first_addition_layernorm',
  mlp_out_norm: 'before_second_addition_layernorm',
}

function tensorsOf(
  source: TensorSource,
  prefix: string,
  sizes: Sizes,
  secondVersion: boolean,
): Map<string, TensorOrigin> {
  const { layers, hidden, textVocab, imageVocab, textLength, grid, sandwichNorm } = sizes
  const needed = new Map<string, readonly number[]>()
  const tensors = new Map<string, TensorOrigin>()
  const whole = (name: string, stored: string, shape: readonly number[]) => {
    needed.set(stored, shape)
    tensors.set(name, prefix + stored)
  }
  const rows = (name: string, stored: string, shape: readonly number[], first: number, end: number) => {
    needed.set(stored, shape)
    tensors.set(name, [{ name: prefix + stored, first, end }])
  }
  const norm = (name: string, stored: string) => {
    whole(`${name}.weight`, `${stored}.weight`, [hidden])
    whole(`${name}.bias`, `${stored}.bias`, [hidden])
  }
  whole('text_embedding.weight', 'text_embeddings.weight', [textVocab, hidden])
  whole('image_embedding.weight', 'image_embeddings.weight', [imageVocab, hidden])
  whole('row_position.weight', 'image_row_embeddings.weight', [grid, hidden])
  whole('column_position.weight', 'image_col_embeddings.weight', [grid, hidden])
  const positions = textLength + (secondVersion ? 1 : 0)
  rows('text_position.weight', 'text_pos_embeddings.weight', [textLength + 1, hidden], 0, positions)
  const widths: Record<string, readonly [number, number]> = {
    query_key_value: [3 * hidden, hidden],
    attention_out: [hidden, hidden],
    mlp_in: [4 * hidden, hidden],
    mlp_out: [hidden, 4 * hidden],
  }
  for (let i = 0; i < layers; i++) {
    for (const [part, stored] of Object.entries({ ...blockParts, ...(sandwichNorm ? sandwichParts : {}) })) {
      const [name, at] = [`blocks.${i}.${part}`, `transformer.layers.${i}.${stored}`]
      const width = widths[part]
      if (width === undefined) {
        norm(name, at)
      } else {
        whole(`${name}.weight`, `${at}.weight`, width)
        whole(`${name}.bias`, `${at}.bias`, [width[0]])
      }
    }
  }
  norm('final_norm', 'transformer.final_layernorm')
  norm('head_norm', 'to_logits.0')
  const vocab = textVocab + imageVocab
  for (const [part, shape] of [
    ['weight', [vocab, hidden]],
    ['bias', [vocab]],
  ] as const) {
    rows(`text_head.${part}`, `to_logits.1.${part}`, shape, 0, textVocab)
    rows(`image_head.${part}`, `to_logits.1.${part}`, shape, textVocab, vocab)
  }
  requireTensors(source, prefix, needed)
  return tensors
}
