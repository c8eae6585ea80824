import { pixelsToTensor, readImage } from '../data/image.ts'
import { VilgError } from '../errors.ts'
import type { ErnieVilg } from '../model/ernie-vilg.ts'
import { ImageTokenizer } from '../model/image-tokenizer.ts'
import { Matcher } from '../model/matcher.ts'
import { encodeTexts } from '../tokenizer/encode-texts.ts'
import { TextTokenizer } from '../tokenizer/text-tokenizer.ts'
import { rejectUnknownKeys, typeMismatch } from '../validate.ts'
import type { GeneratedImage } from './generated-image.ts'
import type { RerankerName } from './options.ts'

/** Scores candidates, so that the best of many can be kept (the paper keeps the best of 60 by an image-text matcher, 4.2). */
export interface Reranker {
  /** One score a picture, higher is better. A promise may reject, which rejects the call that asked. */
  score(
    prompt: string,
    images: readonly GeneratedImage[],
    options: { signal?: AbortSignal | undefined },
  ): Promise<ArrayLike<number>> | ArrayLike<number>
}

/**
 * The reranker of that name for a model.
 *
 * @throws ERR_VILG_UNSUPPORTED for `matcher` where the model has none
 */
export function rerankerNamed(model: ErnieVilg, name: RerankerName): Reranker {
  if (name === 'likelihood') return likelihoodReranker(model)
  const { matcher, textTokenizer } = model
  if (matcher !== undefined) return matcherReranker({ matcher, textTokenizer })
  const text = `Expected a model with a matcher for the reranker 'matcher', '${model.name}' has none; use 'likelihood'`
  throw new VilgError('ERR_VILG_UNSUPPORTED', text)
}

/** Pictures scored in one pass: bounds the memory of the logits. */
const imagesPerPass = 16

/**
 * Scores pictures with the model itself, in its other direction: log P(prompt | picture), the likelihood of the prompt as a
 * description of what was drawn.
 */
export function likelihoodReranker(model: ErnieVilg): Reranker {
  return {
    async score(prompt, images, { signal } = {}) {
      const { textLength } = model.generator.config
      const { ids, valid } = model.textTokenizer.encode(prompt, { length: textLength, truncate: true })
      const scores: number[] = []
      for (let start = 0; start < images.length; start += imagesPerPass) {
        const part = images.slice(start, start + imagesPerPass)
        const text = new Int32Array(part.length * textLength)
        const textValid = new Uint8Array(part.length * textLength)
        const imageLength = part[0]!.tokens.length
        const image = new Int32Array(part.length * imageLength)
        part.forEach((candidate, i) => {
          text.set(ids, i * textLength)
          textValid.set(valid, i * textLength)
          image.set(candidate.tokens, i * imageLength)
        })
        const { rowLosses } = await model.generator.forward(
          { text, textValid, image },
          { direction: 'image-to-text', signal },
        )
        const rows = textLength - 1
        part.forEach((_, i) => {
          let sum = 0
          for (let j = 0; j < rows; j++) sum -= rowLosses[i * rows + j]!
          scores.push(sum)
        })
      }
      return scores
    },
  }
}

/** What a {@link matcherReranker} is made of. */
export interface MatcherRerankerOptions {
  matcher: Matcher
  /** The one that the matcher was trained with. */
  textTokenizer: TextTokenizer
  /**
   * The one that the matcher was trained with. Where it is given, pictures become its tokens; else the tokens that they were drawn as are compared,
   * so the generator's image tokenizer must be the matcher's.
   */
  imageTokenizer?: ImageTokenizer
}

/** Scores pictures with a matcher: {@link Matcher.score} of the cosine with the prompt, from 0 to 1. */
export function matcherReranker(options: MatcherRerankerOptions): Reranker {
  rejectUnknownKeys('matcherReranker options', options, ['matcher', 'textTokenizer', 'imageTokenizer'])
  const { matcher, textTokenizer, imageTokenizer } = options ?? {}
  if (!(matcher instanceof Matcher)) throw typeMismatch('matcher', 'a Matcher', matcher)
  if (!(textTokenizer instanceof TextTokenizer)) {
    throw typeMismatch('textTokenizer', 'a TextTokenizer', textTokenizer)
  }
  if (imageTokenizer !== undefined && !(imageTokenizer instanceof ImageTokenizer)) {
    throw typeMismatch('imageTokenizer', 'an ImageTokenizer', imageTokenizer)
  }
  return {
    async score(prompt, images, { signal } = {}) {
      const text = encodeTexts(textTokenizer, [prompt], matcher.config.textLength)
      const cosines: number[] = []
      for (let start = 0; start < images.length; start += imagesPerPass) {
        const part = images.slice(start, start + imagesPerPass)
        const tokens =
          imageTokenizer === undefined ? joined(part) : await encoded(part, imageTokenizer, signal)
        cosines.push(...(await matcher.similarity(tokens, text, { signal })))
      }
      return cosines.map((cosine) => matcher.score(cosine))
    },
  }
}

function joined(images: readonly GeneratedImage[]): Int32Array {
  const length = images[0]!.tokens.length
  const all = new Int32Array(images.length * length)
  for (const [i, { tokens }] of images.entries()) all.set(tokens, i * length)
  return all
}

/** Pictures of any size as tokens. */
async function encoded(
  images: readonly GeneratedImage[],
  tokenizer: ImageTokenizer,
  signal: AbortSignal | undefined,
): Promise<Int32Array> {
  const { resolution: size } = tokenizer.config
  const pictures = await Promise.all(images.map((image) => readImage(image, { size })))
  return (await tokenizer.encode(pixelsToTensor(pictures), { count: images.length, signal })).indices
}
