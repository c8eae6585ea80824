import { Heap } from './heap.ts'
import { VilgRangeError } from '../errors.ts'
import {
  expectBoolean,
  expectInteger,
  expectString,
  expectedText,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { CONTINUATION, MAX_WORD_LENGTH, splitWords } from './word-piece.ts'

/** Options of {@link trainWordPiece}. */
export interface TrainWordPieceOptions {
  /** The most tokens that the vocabulary may have, the five special ones included. */
  size: number
  /** How often a pair of pieces must occur to become a token. Single characters are in however rare. Default 2. */
  minFrequency?: number
  /** Lower-case texts and strip accents first; the tokenizer must do the same. Default true. */
  lowerCase?: boolean
}

/** The tokens that every trained vocabulary begins with, [PAD] being 0. */
export const SPECIAL_TOKENS = Object.freeze(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const)

interface Word {
  pieces: number[]
  count: number
}

/** Two pieces side by side, as one number; ids stay below 2 ** 26, so it is exact. */
type Pair = number
const pairBase = 2 ** 26

/**
 * Makes a WordPiece vocabulary from texts: the special tokens, then every character (as the start of a word, as `##` inside of
 * one, or both, as the corpus needs), the frequent first, then merged pieces in the order of merging.
 *
 * A pair is merged by its frequency, as byte-pair encoding does, not by the WordPiece score (its frequency over the product of
 * its parts'): frequency makes the texts shortest, and short texts are what the attention pays for, while the score favours
 * pairs of rare characters, of which a small corpus has many. Ideographs are words by themselves and never merge.
 *
 * Every text of the corpus then encodes without [UNK], words of more than 200 characters aside, which are [UNK] always. The
 * result depends on the words of the corpus and their counts alone, not on the order of the texts. A vocabulary shorter than
 * `size` means that no pair is left that occurs `minFrequency` times.
 *
 * @param corpus the texts, read once
 * @returns the tokens, ids being places
 */
export function trainWordPiece(corpus: Iterable<string>, options: TrainWordPieceOptions): string[] {
  rejectUnknownKeys('training options', options, ['size', 'minFrequency', 'lowerCase'])
  if (typeof corpus === 'string' || typeof corpus?.[Symbol.iterator] !== 'function') {
    throw typeMismatch('corpus', 'an iterable of texts', corpus)
  }
  if (options === undefined) throw typeMismatch('training options', 'an object with size', options)
  const size = expectInteger('size', options.size, { min: SPECIAL_TOKENS.length + 1, max: pairBase })
  const minFrequency = expectInteger('minFrequency', options.minFrequency ?? 2, { min: 1 })
  const lowerCase = expectBoolean('lowerCase', options.lowerCase ?? true)

  const counts = countWords(corpus, lowerCase)
  const characters = countCharacters(counts)
  const needed = SPECIAL_TOKENS.length + characters.size
  if (size < needed) {
    const what = `at least ${needed} (${SPECIAL_TOKENS.length} special tokens and ${characters.size} characters of the corpus)`
    const details = { argument: 'size', needed }
    throw new VilgRangeError('ERR_VILG_INVALID_ARGUMENT', expectedText(what, 'size', String(size)), details)
  }
  const ordered = [...characters].sort(([a, m], [b, n]) => n - m || compare(a, b)).map(([token]) => token)
  const tokens = [...SPECIAL_TOKENS, ...ordered]
  new Merger(tokens, counts).run(size, minFrequency)
  return tokens
}

function countWords(corpus: Iterable<string>, lowerCase: boolean): Map<string, number> {
  const counts = new Map<string, number>()
  let index = 0
  for (const text of corpus) {
    for (const word of splitWords(expectString(`corpus[${index}]`, text), lowerCase)) {
      if (word.length > MAX_WORD_LENGTH && [...word].length > MAX_WORD_LENGTH) continue
      counts.set(word, (counts.get(word) ?? 0) + 1)
    }
    index++
  }
  return counts
}

/** The characters of a word as tokens. */
function spell(word: string): string[] {
  return [...word].map((character, index) => (index === 0 ? character : CONTINUATION + character))
}

function countCharacters(words: ReadonlyMap<string, number>): Map<string, number> {
  const counts = new Map<string, number>()
  for (const [word, count] of words) {
    for (const token of spell(word)) counts.set(token, (counts.get(token) ?? 0) + count)
  }
  return counts
}

/** By UTF-16 units: the same everywhere, unlike an order by locale. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Merges the most frequent pair, again and again, and keeps the counts of all pairs up to date meanwhile. */
class Merger {
  readonly #tokens: string[]
  readonly #ids: Map<string, number>
  readonly #words: Word[] = []
  readonly #counts = new Map<Pair, number>()
  /** The words that a pair occurs in, or once did. */
  readonly #places = new Map<Pair, Set<number>>()
  /** Pairs with counts of the past; a count never grows but by a push, so the top is checked when it is taken. */
  readonly #heap = new Heap<{ pair: Pair; count: number }>((a, b) => this.#before(a, b))

  /** @param tokens the vocabulary so far, which `run` appends to */
  constructor(tokens: string[], counts: ReadonlyMap<string, number>) {
    this.#tokens = tokens
    this.#ids = new Map(tokens.map((token, id) => [token, id]))
    for (const [word, count] of counts) {
      const pieces = spell(word).map((token) => this.#ids.get(token)!)
      if (pieces.length < 2) continue
      const index = this.#words.push({ pieces, count }) - 1
      for (const pair of pairsOf(pieces)) this.#add(pair, count, index)
    }
    for (const [pair, count] of this.#counts) this.#heap.push({ pair, count })
  }

  run(size: number, minFrequency: number): void {
    while (this.#tokens.length < size) {
      const top = this.#heap.pop()
      if (top === undefined) return
      const count = this.#counts.get(top.pair) ?? 0
      if (count !== top.count) {
        if (count > 0) this.#heap.push({ pair: top.pair, count })
        continue
      }
      if (count < minFrequency) return
      this.#merge(top.pair)
    }
  }

  #merge(pair: Pair): void {
    const left = Math.floor(pair / pairBase)
    const right = pair % pairBase
    const token = this.#tokens[left]! + this.#tokens[right]!.slice(CONTINUATION.length)
    // The same piece can come from another pair (a ##bc, ab ##c): then it is a token already.
    let id = this.#ids.get(token)
    if (id === undefined) {
      id = this.#tokens.push(token) - 1
      this.#ids.set(token, id)
    }
    const grown = new Set<Pair>()
    for (const index of this.#places.get(pair)!) {
      const word = this.#words[index]!
      const merged: number[] = []
      for (let i = 0; i < word.pieces.length; i++) {
        const piece = word.pieces[i]!
        if (piece === left && word.pieces[i + 1] === right) {
          merged.push(id)
          i++
        } else merged.push(piece)
      }
      if (merged.length === word.pieces.length) continue
      for (const old of pairsOf(word.pieces)) this.#counts.set(old, this.#counts.get(old)! - word.count)
      word.pieces = merged
      for (const made of pairsOf(merged)) {
        this.#add(made, word.count, index)
        grown.add(made)
      }
    }
    this.#counts.delete(pair)
    this.#places.delete(pair)
    for (const pair of grown) this.#heap.push({ pair, count: this.#counts.get(pair)! })
  }

  #add(pair: Pair, count: number, word: number): void {
    this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + count)
    const places = this.#places.get(pair)
    if (places === undefined) this.#places.set(pair, new Set([word]))
    else places.add(word)
  }

  /** Whether a comes out before b: the higher count, then the tokens in order of their text. */
  #before(a: { pair: Pair; count: number }, b: { pair: Pair; count: number }): boolean {
    if (a.count !== b.count) return a.count > b.count
    if (a.pair === b.pair) return false
    const left = compare(
      this.#tokens[Math.floor(a.pair / pairBase)]!,
      this.#tokens[Math.floor(b.pair / pairBase)]!,
    )
    return left < 0 || (left === 0 && this.#tokens[a.pair % pairBase]! < this.#tokens[b.pair % pairBase]!)
  }
}

function pairsOf(pieces: readonly number[]): Pair[] {
  const pairs: Pair[] = []
  for (let i = 1; i < pieces.length; i++) pairs.push(pieces[i - 1]! * pairBase + pieces[i]!)
  return pairs
}
