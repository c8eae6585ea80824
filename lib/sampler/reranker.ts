import type { ErnieVilg } from '../model/ernie-vilg.ts'
import type { GeneratedImage } from './generated-image.ts'

/** Scores candidates, so that the best of many can be kept (the paper keeps the best of 60 by an image-text matcher, 4.2). */
export interface Reranker {
  /** One score a picture, higher is better. A promise may reject, which rejects the call that asked. */
  score(
    prompt: string,
    images: readonly GeneratedImage[],
    options: { signal?: AbortSignal | undefined },
  ): Promise<ArrayLike<number>> | ArrayLike<number>
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
