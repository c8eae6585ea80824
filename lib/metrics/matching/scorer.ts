import { outOfRange, rejectUnknownKeys, typeMismatch } from '../../validate.ts'
import { cosine, type Embedding } from './cosine.ts'

/** Says how well each of some captions fits a picture, higher is better: an image-text matcher. May return a promise. */
export type ImageTextScorer<Image> = (
  image: Image,
  captions: readonly string[],
  options: { signal?: AbortSignal | undefined },
) => ArrayLike<number> | Promise<ArrayLike<number>>

/** The two halves of a CLIP-like matcher. */
export interface CosineScorerOptions<Image> {
  embedImage: (image: Image, options: { signal?: AbortSignal | undefined }) => Embedding | Promise<Embedding>
  /** One embedding a caption, in their order. */
  embedTexts: (
    captions: readonly string[],
    options: { signal?: AbortSignal | undefined },
  ) => readonly Embedding[] | Promise<readonly Embedding[]>
}

/**
 * A scorer by the cosine of embeddings. Each caption is embedded once and kept: R-precision asks for most of them about a hundred times.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function cosineScorer<Image>(options: CosineScorerOptions<Image>): ImageTextScorer<Image> {
  rejectUnknownKeys('cosineScorer options', options, ['embedImage', 'embedTexts'])
  const { embedImage, embedTexts } = options
  if (typeof embedImage !== 'function') throw typeMismatch('embedImage', 'a function', embedImage)
  if (typeof embedTexts !== 'function') throw typeMismatch('embedTexts', 'a function', embedTexts)
  const known = new Map<string, Embedding>()
  return async (image, captions, { signal }) => {
    const own = await embedImage(image, { signal })
    const fresh = [...new Set(captions)].filter((caption) => !known.has(caption))
    if (fresh.length > 0) {
      const embedded = await embedTexts(fresh, { signal })
      if (!Array.isArray(embedded) || embedded.length !== fresh.length) {
        throw outOfRange('what embedTexts returns', `${fresh.length} embeddings`, embedded)
      }
      fresh.forEach((caption, i) => known.set(caption, embedded[i] as Embedding))
    }
    return captions.map((caption) =>
      cosine(own, known.get(caption)!, ['what embedImage returns', 'what embedTexts returns']),
    )
  }
}
