import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { Matcher } from '../../model/matcher.ts'
import { encodeTexts } from '../../tokenizer/encode-texts.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { expectString, rejectUnknownKeys, typeMismatch } from '../../validate.ts'
import { pixelsToTensor, readImage, type RgbImage } from '../image.ts'
import type { ImageTextMatcher } from './similarity-rule.ts'

/** What {@link imageTextMatcher} is made of; the tokenizers are those that the matcher was trained with. */
export interface ImageTextMatcherOptions {
  /** With its version: it decides what stays. */
  name: string
  matcher: Matcher
  imageTokenizer: ImageTokenizer
  textTokenizer: TextTokenizer
}

/**
 * A {@link Matcher} as what {@link similarityRule} asks: {@link Matcher.score} of pixels and captions. Calibrate it first, or 0.5 means
 * nothing ({@link Matcher.calibrate}).
 *
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function imageTextMatcher(options: ImageTextMatcherOptions): ImageTextMatcher {
  rejectUnknownKeys('imageTextMatcher options', options, [
    'name',
    'matcher',
    'imageTokenizer',
    'textTokenizer',
  ])
  const { name, matcher, imageTokenizer, textTokenizer } = options ?? {}
  expectString('name', name)
  if (!(matcher instanceof Matcher)) throw typeMismatch('matcher', 'a Matcher', matcher)
  if (!(imageTokenizer instanceof ImageTokenizer)) {
    throw typeMismatch('imageTokenizer', 'an ImageTokenizer', imageTokenizer)
  }
  if (!(textTokenizer instanceof TextTokenizer)) {
    throw typeMismatch('textTokenizer', 'a TextTokenizer', textTokenizer)
  }
  const { resolution: size } = imageTokenizer.config
  return {
    name,
    async score(image: RgbImage, captions: readonly string[]) {
      if (captions.length === 0) return []
      const picture = image.width === size && image.height === size ? image : await readImage(image, { size })
      const { indices } = await imageTokenizer.encode(pixelsToTensor(picture), { count: 1 })
      const texts = encodeTexts(textTokenizer, captions, matcher.config.textLength)
      return Array.from(await matcher.similarity(indices, texts), (cosine) => matcher.score(cosine))
    },
  }
}
