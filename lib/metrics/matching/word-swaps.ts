import { expectString, typeMismatch } from '../../validate.ts'

// written without spaces between words, so that a word may begin and end anywhere
const unspaced = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u

/**
 * All captions that differ from one in a single word, swapped for another of its category: "a red apple" becomes "a green apple" and "a blue
 * apple" with the category red, green, blue. The word is the first of the caption that the category has, the longest where two begin at one place.
 *
 * @param words the category; letters of either case are the same
 * @returns none where the caption has no word of the category
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function wordSwaps(caption: string, words: readonly string[]): string[] {
  expectString('caption', caption)
  const category = checkWords('words', words)
  let found: { at: number; length: number; word: string } | undefined
  for (const word of category) {
    const match = new RegExp(pattern(word), 'iu').exec(caption)
    if (!match) continue
    const { index: at } = match
    const { length } = match[0]
    if (!found || at < found.at || (at === found.at && length > found.length)) found = { at, length, word }
  }
  if (!found) return []
  const { at, length, word } = found
  const [before, after] = [caption.slice(0, at), caption.slice(at + length)]
  return category.filter((other) => other !== word).map((other) => before + other + after)
}

/** @internal The words of a category, lower-case, each once. */
export function checkWords(name: string, words: unknown): string[] {
  if (!Array.isArray(words) || words.some((word) => typeof word !== 'string' || word.trim() === '')) {
    throw typeMismatch(name, 'an array of words', words)
  }
  return [...new Set((words as string[]).map((word) => word.trim().toLowerCase()))]
}

function pattern(word: string): string {
  const escaped = word.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
  const [first, last] = [[...word][0]!, [...word].at(-1)!]
  const begin = unspaced.test(first) ? '' : '(?<![\\p{L}\\p{N}_])'
  const end = unspaced.test(last) ? '' : '(?![\\p{L}\\p{N}_])'
  return begin + escaped + end
}
