import { VilgError } from '../../errors.ts'

/** A word with its part of speech, as jieba names it: `n`, `nr`, `ns`, `nt`, `nz` are nouns, `x` is what is no word. */
export interface TaggedWord {
  word: string
  tag: string
}

/** Cuts a text into words and says what kind each is. */
export type Segmenter = (text: string) => TaggedWord[]

const jieba = 'jieba-wasm'

/**
 * The segmenter of the optional package jieba-wasm: jieba's dictionary and hidden Markov model in WebAssembly, offline.
 *
 * @throws ERR_VILG_UNSUPPORTED where the package is not installed
 */
export async function jiebaSegmenter(): Promise<Segmenter> {
  try {
    const { tag } = (await import(jieba)) as { tag(text: string, hmm: boolean): TaggedWord[] }
    return (text) => tag(text, true)
  } catch (cause) {
    const text = `Words are told apart by the optional package ${jieba}, which could not be loaded. Install it: npm install ${jieba}`
    throw new VilgError('ERR_VILG_UNSUPPORTED', text, { package: jieba }, { cause })
  }
}

const hasLetterOrDigit = /[\p{L}\p{N}]/u

/** Without punctuation and blanks. */
export function wordsOf(segmented: readonly TaggedWord[]): TaggedWord[] {
  return segmented.filter(({ word }) => hasLetterOrDigit.test(word))
}
