import { type GeneratorConfig } from '../lib/model/generator-config.ts'
import { PRESETS } from '../lib/model/presets.ts'
import type { TokenBatch } from '../lib/model/token-batch.ts'
import { Random } from './data.ts'

/** The generator of the benchmarks: 12 layers of 768 with the paper's stream of 127 text tokens, IMG and 32 x 32 image tokens. */
export const generatorConfig: GeneratorConfig = Object.freeze({
  ...PRESETS['ernie-vilg-300m'],
  layers: 12,
  hidden: 768,
  heads: 12,
})

/** One pair of random tokens without PAD; its text is every time the same. */
export function randomPair(image?: Int32Array): TokenBatch {
  const random = new Random(4)
  const { textLength, textVocab, grid, imageVocab } = generatorConfig
  return {
    text: random.integers(textLength, textVocab),
    textValid: new Uint8Array(textLength).fill(1),
    image: image ?? random.integers(grid ** 2, imageVocab),
  }
}
