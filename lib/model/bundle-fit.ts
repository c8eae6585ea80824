import type { TextTokenizer } from '../tokenizer/text-tokenizer.ts'
import type { Task } from './bundle-file.ts'
import type { GeneratorConfig, StreamConfig } from './generator-config.ts'
import { type ImageTokenizerConfig, reductionOf } from './image-tokenizer-config.ts'

/** What of a bundle's parts must fit. */
export interface BundleSizes {
  generator: Required<GeneratorConfig>
  imageTokenizer: Required<ImageTokenizerConfig>
  textTokenizer: TextTokenizer
  matcher?: StreamConfig | undefined
  trainedFor: readonly Task[]
}

/** What a generator may be trained for unless more is known of it. */
export function tasksOf(generator: Required<GeneratorConfig>): Task[] {
  return generator.imageStart === 'text' ? ['text-to-image'] : ['text-to-image', 'image-to-text']
}

/** What does not fit, as a sentence; undefined where all does. */
export function findMisfit(sizes: BundleSizes): string | undefined {
  const { generator, textTokenizer, matcher, trainedFor } = sizes
  const { textVocab, paddingIds, imageStart } = generator
  const tokens =
    paddingIds > 0
      ? tokenMisfit('paddingIds of the generator', paddingIds, textTokenizer)
      : tokenMisfit('textVocab of the generator', textVocab, textTokenizer)
  if (tokens !== undefined) return tokens
  if (paddingIds > 0 && textTokenizer.padId !== 0) {
    return `Expected a text tokenizer whose PAD is 0, as the generator's paddingIds need it, found ${textTokenizer.padId}`
  }
  const other = trainedFor.find((task) => task !== 'text-to-image')
  if (imageStart === 'text' && other !== undefined) {
    return `Expected a generator that only draws (imageStart: 'text') to be trained for text-to-image, found ${other}`
  }
  return (
    pictureMisfit('generator', generator, sizes) ??
    (matcher === undefined
      ? undefined
      : (tokenMisfit('textVocab of the matcher', matcher.textVocab, textTokenizer) ??
        pictureMisfit('matcher', matcher, sizes)))
  )
}

function tokenMisfit(what: string, found: number, { vocabSize }: TextTokenizer): string | undefined {
  if (found === vocabSize) return undefined
  return `Expected ${what} to be the text tokenizer's ${vocabSize} tokens, found ${found}`
}

function pictureMisfit(
  name: string,
  { imageVocab, grid }: StreamConfig,
  { imageTokenizer }: BundleSizes,
): string | undefined {
  const { codebookSize, resolution } = imageTokenizer
  if (imageVocab !== codebookSize) {
    return `Expected imageVocab of the ${name} to be the image tokenizer's ${codebookSize} codes, found ${imageVocab}`
  }
  const side = resolution / reductionOf(imageTokenizer)
  if (grid === side) return undefined
  return `Expected grid of the ${name} to be the image tokenizer's ${side} tokens a side, found ${grid}`
}
