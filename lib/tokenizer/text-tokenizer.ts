import { dirname, extname, join } from 'node:path'
import { VilgError, VilgRangeError } from '../errors.ts'
import { makeFolder } from '../make-folder.ts'
import {
  expectBoolean,
  expectInteger,
  expectString,
  expectedText,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { loadTextModel, TOKENIZER_FILES } from './load-text-model.ts'
import type { TextModel } from './text-model.ts'
import { readTextIfThere, writeTextAtomically } from './vocabulary-file.ts'
import { WordPieceModel } from './word-piece-model.ts'

/** Options of {@link TextTokenizer.encode}. */
export interface TextEncodeOptions {
  /** Pad with PAD to this many tokens, CLS and SEP included; at least 3, or 4 with `pair`. Default: no padding. */
  length?: number
  /** Drop what `length` has no room for, from the end of the longer text. Default false: a text too long is an error. */
  truncate?: boolean
  /** A second text, after the first and a SEP, with a SEP of its own: `CLS text SEP pair SEP`. */
  pair?: string
}

/** A text as tokens. */
export interface EncodedText {
  /** `CLS .. SEP`, and PAD up to `length` where that was given. */
  ids: Int32Array
  /** As long as `ids`: 1, and 0 where padded. */
  valid: Uint8Array
  /** The tokens between CLS and the last SEP, in words. */
  tokens: string[]
}

/** Options of a WordPiece vocabulary. */
export interface VocabularyOptions {
  /** Lower-case texts and strip accents, as BERT's Chinese and uncased models do. Default true. */
  lowerCase?: boolean
}

const encodeKeys = ['length', 'truncate', 'pair'] as const

/**
 * Turns texts into token ids and back: WordPiece over a vocab.txt exactly as BERT does it, byte-pair encoding over a model file of
 * YouTokenToMe exactly as that does it, anything else by a tokenizer.json.
 * Never changes once made, and needs no disposal.
 */
export class TextTokenizer {
  readonly #model: TextModel
  readonly #ends: { pad: number; cls: number; sep: number; unk: number | null }

  private constructor(model: TextModel) {
    this.#model = model
    const { pad, cls, sep, unk } = model.special
    const id = (token: string) => model.ids.get(token)!
    this.#ends = { pad: id(pad), cls: id(cls), sep: id(sep), unk: unk === undefined ? null : id(unk) }
  }

  /**
   * Loads a vocab.txt, a tokenizer.json, a model file of YouTokenToMe (`.model`), or a folder with one of them; where it has several, the
   * first of these counts. A tokenizer_config.json beside says `do_lower_case` (of a vocab.txt and a `.model`, default true) and the
   * special tokens (of a tokenizer.json).
   */
  static async load(path: string): Promise<TextTokenizer> {
    return new TextTokenizer(await loadTextModel(expectString('path', path)))
  }

  /** WordPiece over these tokens, the ids being their places. [PAD], [UNK], [CLS] and [SEP] must be among them. */
  static fromVocabulary(tokens: readonly string[], options?: VocabularyOptions): TextTokenizer {
    rejectUnknownKeys('vocabulary options', options, ['lowerCase'])
    if (!Array.isArray(tokens)) throw typeMismatch('tokens', 'an array of strings', tokens)
    const seen = new Set<string>()
    tokens.forEach((token: unknown, id) => {
      const name = `tokens[${id}]`
      const text = expectString(name, token)
      // Such a token could not be told from another in a vocab.txt.
      if (text === '' || /[\n\r\t]|^ | $|\p{Cs}/u.test(text)) {
        throw outOfRange(name, 'a token without line breaks, tabs, outer spaces and lone surrogates', text)
      }
      if (seen.has(text)) throw outOfRange(name, 'a token that is not there before', text)
      seen.add(text)
    })
    return new TextTokenizer(new WordPieceModel(tokens, lowerCaseOf(options), 'the vocabulary'))
  }

  /** How many rows a table by token id needs: the highest id + 1. */
  get vocabSize(): number {
    return this.#model.tokens.length
  }

  /** The id of the padding token. */
  get padId(): number {
    return this.#ends.pad
  }

  /** The id of the token before a text. */
  get clsId(): number {
    return this.#ends.cls
  }

  /** The id of the token after a text. */
  get sepId(): number {
    return this.#ends.sep
  }

  /** The id of the token for unknown text, or null where the tokenizer has none (it can write every text). */
  get unkId(): number | null {
    return this.#ends.unk
  }

  /** Ids that show in no text: those that {@link decode} leaves out, and those that are no token's. @internal */
  get silentIds(): number[] {
    const { tokens, hidden } = this.#model
    return Array.from(tokens, (_, id) => id).filter((id) => tokens[id] === undefined || hidden.has(id))
  }

  /** The id of a token, or undefined if there is no such token. */
  idOf(token: string): number | undefined {
    return this.#model.ids.get(expectString('token', token))
  }

  /** The token of an id in 0 .. vocabSize - 1, or undefined if the vocabulary has a hole there. */
  tokenOf(id: number): string | undefined {
    return this.#model.tokens[expectInteger('id', id, { min: 0, max: this.vocabSize - 1 })]
  }

  /**
   * The token ids of a text, framed by CLS and SEP.
   *
   * Takes any string in time linear in its length; one without any token gives `CLS SEP`. Throws `ERR_VILG_INVALID_ARGUMENT`
   * for a text that does not fit `length` (unless `truncate`).
   */
  encode(text: string, options?: TextEncodeOptions): EncodedText {
    rejectUnknownKeys('encode options', options, encodeKeys)
    const { length, truncate = false, pair } = options ?? {}
    const hasPair = pair !== undefined
    const frame = hasPair ? 3 : 2
    if (length !== undefined) expectInteger('length', length, { min: frame + 1 })
    expectBoolean('truncate', truncate)

    const first = this.#encodePart('text', text)
    const second = hasPair ? this.#encodePart('pair', pair) : []
    if (length !== undefined) this.#fit(first, second, length - frame, truncate, hasPair)

    const { pad, cls, sep } = this.#ends
    const content = hasPair ? [...first, sep, ...second] : first
    const used = content.length + 2
    const ids = new Int32Array(length ?? used).fill(pad)
    ids[0] = cls
    ids.set(content, 1)
    ids[used - 1] = sep
    const valid = new Uint8Array(ids.length).fill(1, 0, used)
    return { ids, valid, tokens: content.map((id) => this.#model.tokens[id]!) }
  }

  #encodePart(name: string, text: unknown): number[] {
    return this.#model.encode(expectString(name, text))
  }

  /** Shortens both parts in place to `room` tokens together, or throws. */
  #fit(first: number[], second: number[], room: number, truncate: boolean, hasPair: boolean): void {
    const total = first.length + second.length
    if (total <= room) return
    if (!truncate) {
      const what = hasPair ? 'texts' : 'a text'
      const frame = hasPair ? 'CLS, SEP and SEP' : 'CLS and SEP'
      const expected = `${what} of at most ${room} tokens beside ${frame}`
      const name = hasPair ? 'text and pair' : 'text'
      const received = `${total} tokens; shorten it, or pass truncate: true`
      throw new VilgRangeError('ERR_VILG_INVALID_ARGUMENT', expectedText(expected, name, received), {
        argument: 'text',
        tokens: total,
        room,
      })
    }
    // As BERT does, token by token from the longer part, from the second if both are as long.
    const half = Math.floor(room / 2)
    if (second.length <= half) first.length = room - second.length
    else if (first.length <= room - half) second.length = room - first.length
    else {
      first.length = room - half
      second.length = half
    }
  }

  /**
   * The text of token ids. CLS, SEP, PAD, UNK and other special tokens are left out; WordPiece pieces are joined, with spaces
   * between Latin words and none beside ideographs.
   *
   * @param ids token ids in 0 .. vocabSize - 1; none gives the empty text
   */
  decode(ids: ArrayLike<number>): string {
    if (typeof ids !== 'object' || ids === null || !Number.isSafeInteger(ids.length) || ids.length < 0) {
      throw typeMismatch('ids', 'an array of token ids', ids)
    }
    const shown: number[] = []
    for (let index = 0; index < ids.length; index++) {
      const id = expectInteger(`ids[${index}]`, ids[index], { min: 0, max: this.vocabSize - 1 })
      if (this.#model.tokens[id] === undefined) throw outOfRange(`ids[${index}]`, 'the id of a token', id)
      if (!this.#model.hidden.has(id)) shown.push(id)
    }
    return this.#model.decode(shown)
  }

  /**
   * Writes the tokenizer so that `load` of the same path gives its equal. Each file is replaced whole or not at all.
   *
   * @param path a folder, made if need be, which gets vocab.txt, tokenizer.json or bpe.model, and tokenizer_config.json where that says
   *   more; or a file, named `.txt` for WordPiece, `.model` for YouTokenToMe and `.json` for others, if the one file says everything
   */
  async save(path: string): Promise<void> {
    expectString('path', path)
    const [main, ...others] = this.#model.files
    const kind = extname(main!.name)
    const given = extname(path)
    if (TOKENIZER_FILES.some((name) => extname(name) === given)) {
      if (given !== kind || !this.#model.fitsOneFile) {
        throw outOfRange('path', `a folder${given === kind ? '' : ` or a ${kind} file`}`, path)
      }
      await makeFolder(dirname(path))
      await writeTextAtomically(path, main!.text)
      return
    }
    await makeFolder(path)
    for (const earlier of TOKENIZER_FILES) {
      if (earlier === main!.name) break
      if ((await readTextIfThere(join(path, earlier))) === undefined) continue
      const message = `Expected a folder without a ${earlier}, which load would take instead of this tokenizer: ${path}`
      throw new VilgError('ERR_VILG_INVALID_ARGUMENT', message, { path })
    }
    for (const file of [...others, main!]) await writeTextAtomically(join(path, file.name), file.text)
  }
}

function lowerCaseOf(options: VocabularyOptions | undefined): boolean {
  return expectBoolean('lowerCase', options?.lowerCase ?? true)
}
