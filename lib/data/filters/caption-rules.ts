import { expectInteger } from '../../validate.ts'
import type { CaptionRule } from './rule.ts'
import { type Segmenter, wordsOf } from './words.ts'

/**
 * The paper's first rule (3.2.1): fewer than 15 words. Punctuation is no word.
 *
 * @param below 15 unless given
 */
export function wordCountRule(segment: Segmenter, below = 15): CaptionRule {
  expectInteger('below', below, { min: 2 })
  return {
    name: 'words',
    settings: { below },
    needs: 'captions',
    allows: (caption) => wordsOf(segment(caption)).length < below,
  }
}

/**
 * Half of the paper's second rule (3.2.1): at least one noun. The tags of nouns begin with n; words in Latin letters, which the dictionary
 * has no part of speech for (`eng`), count as nouns, since in Chinese captions they name things.
 */
export function nounRule(segment: Segmenter): CaptionRule {
  return {
    name: 'nouns',
    settings: {},
    needs: 'captions',
    allows: (caption) => wordsOf(segment(caption)).some(({ tag }) => tag.startsWith('n') || tag === 'eng'),
  }
}

// Letters with their accents, digits, blanks, and the punctuation of Chinese and English sentences.
const plain = /^[\p{L}\p{M}\p{Nd} ,.!?;:'"()\-&%/，。！？；：、·…—～“”‘’（）《》〈〉「」『』【】]*$/u

/**
 * The other half of the paper's second rule (3.2.1): no special characters. The paper does not say which those are; here all that are not
 * letters, digits, blanks or punctuation of sentences: emoji, markup, controls, other symbols, replacement characters.
 */
export function characterRule(): CaptionRule {
  return { name: 'characters', settings: {}, needs: 'captions', allows: (caption) => plain.test(caption) }
}
