import { outOfRange, typeMismatch } from '../../validate.ts'
import { cosine, type Embedding } from './cosine.ts'

/** CLIPScore's scale of cosines, which seldom pass 0.4. */
const weight = 2.5

/**
 * CLIPScore (Hessel et al., EMNLP 2021): 2.5 max(cos(image, text), 0) of CLIP's embeddings, here times 100, as papers on drawing from text report it
 * (Huang et al., "Unifying multimodal transformer for bi-directional image and text generation", table 1: 72 to 77 with ViT-B/32 and texts that
 * begin with "A photo depicts ").
 *
 * @param images one embedding a picture
 * @param texts that of its prompt, in the same order
 * @returns `mean` and `items`, in [0, 250]
 * @throws ERR_VILG_INVALID_ARGUMENT, ERR_VILG_SHAPE_MISMATCH
 */
export function clipScore(
  images: readonly Embedding[],
  texts: readonly Embedding[],
): { mean: number; items: number[] } {
  if (!Array.isArray(images)) throw typeMismatch('images', 'an array of embeddings', images)
  if (!Array.isArray(texts)) throw typeMismatch('texts', 'an array of embeddings', texts)
  if (images.length === 0) throw outOfRange('images', 'at least one embedding', images)
  if (texts.length !== images.length) {
    throw outOfRange('texts', `${images.length} embeddings, one a picture`, texts, 'ERR_VILG_SHAPE_MISMATCH')
  }
  const items = (images as readonly Embedding[]).map((image, i) => {
    const value = cosine(image, texts[i] as Embedding, [`images[${i}]`, `texts[${i}]`])
    return 100 * weight * Math.max(value, 0)
  })
  return { mean: items.reduce((sum, one) => sum + one, 0) / items.length, items }
}
