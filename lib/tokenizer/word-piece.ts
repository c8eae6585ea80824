// The text side of BERT as its authors define it (google-research/bert, tokenization.py): first words, then pieces of words.
// The order of the steps matters (lower-casing before accents, both before punctuation) and is the original's.

/** Longest word, in code points, that is cut into pieces; a longer one is [UNK]. 200 as in google-research/bert. */
export const MAX_WORD_LENGTH = 200

/** How WordPiece marks a piece that goes on a word rather than starting one. */
export const CONTINUATION = '##'

/** Options of {@link WordPiece}. */
export interface WordPieceOptions {
  /** Lower-case and strip accents, as the Chinese and the uncased models do. Default true. */
  lowerCase?: boolean
  /** The token for a word that cannot be put together from pieces. Default `[UNK]`. */
  unknown?: string
}

// Cc includes NUL and U+0085; tab, newline and return are control characters that count as white space instead.
const removed = /(?![\t\n\r])[\p{Cc}\p{Cf}\ufffd]/gu

// A lone surrogate is one unknown character. It becomes the noncharacter U+FFFF, which all later steps leave alone: two of
// them must not fuse into a pair when a control character between them is removed, and UTF-8 cannot write them.
const loneSurrogate = /\p{Cs}/gu

/**
 * The characters that BERT makes words of their own. Not all ideographs: extensions G and later are younger than BERT and
 * stay parts of words there, as kana and Hangul do.
 */
export const IDEOGRAPH =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/u
const everyIdeograph = new RegExp(IDEOGRAPH, 'gu')

// Zs, line and paragraph separators: the white space that is left for Python's split() after the cleaning above.
const whiteSpace = /[\p{Z}\t\n\r]+/u

// All ASCII that is neither letter nor digit counts, though `$+<=>^`|~ are symbols in Unicode.
const wordOrPunctuation = /[\p{P}!-/:-@[-`{-~]|[^\p{P}!-/:-@[-`{-~]+/gu

const nonAscii = /[^\0-\x7f]/

// Canonical ordering, a part of NFD, sorts each run of combining marks by insertion: 100,000 marks take 5 s. So long runs are
// broken with U+034F, as in the Stream-Safe Text Format (UAX #15, 30 marks); being a nonspacing mark, it goes with the accents.
const longMarkRun = /\p{M}{30}/gu
const nonspacingMark = /\p{Mn}/gu

function stripAccents(word: string): string {
  if (!nonAscii.test(word)) return word
  return word.replace(longMarkRun, '$&\u034f').normalize('NFD').replace(nonspacingMark, '')
}

/**
 * Splits a text into words as BERT's BasicTokenizer does: control characters go, every ideograph and every punctuation
 * character is a word of its own, white space separates. Takes any string, in time linear in its length.
 *
 * @param lowerCase lower-case and strip accents
 */
export function splitWords(text: string, lowerCase = true): string[] {
  const spaced = text.replace(loneSurrogate, '\uffff').replace(removed, '').replace(everyIdeograph, ' $& ')
  const words: string[] = []
  for (const part of spaced.split(whiteSpace)) {
    const word = lowerCase ? stripAccents(part.toLowerCase()) : part
    for (const piece of word.match(wordOrPunctuation) ?? []) words.push(piece)
  }
  return words
}

/** Cuts words into the longest pieces that a vocabulary has, from the left: BERT's WordPiece. */
export class WordPiece {
  readonly lowerCase: boolean
  readonly unknown: string
  readonly #vocabulary: { has(token: string): boolean }
  readonly #longestStart: number
  readonly #longestContinuation: number

  /** @param tokens the vocabulary; its order does not matter here */
  constructor(tokens: Iterable<string>, options: WordPieceOptions = {}) {
    const vocabulary = new Set(tokens)
    this.#vocabulary = vocabulary
    this.lowerCase = options.lowerCase ?? true
    this.unknown = options.unknown ?? '[UNK]'
    let start = 0
    let continuation = 0
    for (const token of vocabulary) {
      start = Math.max(start, token.length)
      if (token.startsWith(CONTINUATION)) {
        continuation = Math.max(continuation, token.length - CONTINUATION.length)
      }
    }
    this.#longestStart = start
    this.#longestContinuation = continuation
  }

  /** The pieces of a text. Any string will do; an empty one has none. */
  tokenize(text: string): string[] {
    const pieces: string[] = []
    for (const word of splitWords(text, this.lowerCase)) {
      if (!this.#cut(word, pieces)) pieces.push(this.unknown)
    }
    return pieces
  }

  /** Appends the pieces of a word, or nothing and false if it has none. */
  #cut(word: string, pieces: string[]): boolean {
    // No code point takes more than two units, so that a 100 KB word is not even looked through.
    if (word.length > 2 * MAX_WORD_LENGTH) return false
    if (word.length > MAX_WORD_LENGTH && [...word].length > MAX_WORD_LENGTH) return false
    const first = pieces.length
    for (let start = 0; start < word.length;) {
      const prefix = start === 0 ? '' : CONTINUATION
      // No need to try what is longer than every token: this is what bounds the work.
      const longest = start === 0 ? this.#longestStart : this.#longestContinuation
      let end = Math.min(word.length, start + longest)
      while (end > start && !this.#vocabulary.has(prefix + word.slice(start, end))) end--
      if (end === start) {
        pieces.length = first
        return false
      }
      pieces.push(prefix + word.slice(start, end))
      start = end
    }
    return true
  }
}
