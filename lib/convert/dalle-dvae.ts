import type { TensorSource } from '../checkpoint/tensor-source.ts'
import { checkDvaeConfig } from '../model/dvae-config.ts'
import { dvaeTensors } from '../model/dvae-tensors.ts'
import { checkedSizes, type Family, incompatible, prefixesOf, requireTensors, shapeOf } from './family.ts'

// What DALL-E's code has in place of a configuration: notebooks/usage.ipynb and dall_e/utils.py
const usualResolution = 256
const epsilon = 0.1

const input = 'blocks.input.w'

/** DALL-E's discrete VAE: encoder and decoder, in a file each or in one. */
export const dalleDvae: Family = {
  title: "DALL-E's discrete VAE",

  prefixes(source) {
    return [...halvesOf(source).keys()]
  },

  plan(source, prefix, { config: given, resolution: side }) {
    if (given !== undefined) {
      throw incompatible(source, 'expected no configuration file, for this family has none, found one')
    }
    const { encoder, decoder } = halvesOf(source).get(prefix)!
    if (encoder === undefined || decoder === undefined) {
      const text = `expected an encoder and a decoder, found the ${encoder === undefined ? 'decoder' : 'encoder'} only; give both files`
      throw incompatible(source, text)
    }
    const sizes = sizesOf(source, encoder, decoder)
    const resolution = side ?? usualResolution
    const config = checkedSizes(source, () =>
      checkDvaeConfig({ model: 'dvae', resolution, ...sizes, epsilon }),
    )
    const needed = dvaeTensors(sizes)
    const part = (own: string, stored: string) => {
      const shapes = [...needed].flatMap(([name, shape]) =>
        name.startsWith(own) ? [[name.slice(own.length), shape] as const] : [],
      )
      const found = requireTensors(source, stored, new Map(shapes))
      return [...found].map(([name, at]) => [own + name, at] as const)
    }
    const tensors = new Map([...part('encoder.', encoder), ...part('decoder.', decoder)])
    const notes =
      side === undefined
        ? [`resolution ${usualResolution}: the weights do not say it, and DALL-E's pictures have this one`]
        : []
    return { config, tensors, notes }
  },
}

/** What comes before the names of the halves of a model. */
interface Halves {
  encoder?: string
  decoder?: string
}

/** The models of a file, by what comes before `encoder.` and `decoder.`: an encoder begins with a convolution of 7 x 7, a decoder of 1 x 1. */
function halvesOf(source: TensorSource): Map<string, Halves> {
  const found = new Map<string, Halves>()
  for (const prefix of prefixesOf(source, [input])) {
    const side = source.tensors.get(prefix + input)!.shape[3]
    const model = prefix.replace(/[^.]*\.$/, '')
    if (side === 7) found.set(model, { ...found.get(model), encoder: prefix })
    if (side === 1) found.set(model, { ...found.get(model), decoder: prefix })
  }
  return found
}

function sizesOf(source: TensorSource, encoder: string, decoder: string) {
  const first = (group: number, block: number) => `${encoder}blocks.group_${group}.block_${block}`
  const has = (group: number, block: number) => source.tensors.has(`${first(group, block)}.res_path.conv_1.w`)
  let groups = 0
  while (has(groups + 1, 1)) groups++
  let blocksPerGroup = 0
  while (has(1, blocksPerGroup + 1)) blocksPerGroup++
  const [initial, codebookSize] = shapeOf(source, decoder + input, 4)
  const hidden = shapeOf(source, encoder + input, 4)[0]!
  return { hidden, initial: initial!, blocksPerGroup, groups, codebookSize: codebookSize! }
}
