import { VilgError } from '../errors.ts'
import { joinPieces } from './join-pieces.ts'
import type { SpecialTokens, TextModel, TokenizerFile } from './text-model.ts'
import { WordPiece } from './word-piece.ts'

/** The tokens every WordPiece vocabulary needs. */
export const REQUIRED_TOKENS = Object.freeze(['[PAD]', '[UNK]', '[CLS]', '[SEP]'] as const)

/** WordPiece over a vocabulary in the order of its ids. */
export class WordPieceModel implements TextModel {
  readonly tokens: readonly string[]
  readonly ids: ReadonlyMap<string, number>
  readonly special: SpecialTokens = { pad: '[PAD]', cls: '[CLS]', sep: '[SEP]', unk: '[UNK]' }
  readonly hidden: ReadonlySet<number>
  readonly #pieces: WordPiece

  /**
   * @param tokens the vocabulary; ids are places in it
   * @param source what the vocabulary is called in an error
   */
  constructor(tokens: readonly string[], lowerCase: boolean, source: string) {
    this.tokens = Object.freeze([...tokens])
    const ids = new Map(tokens.map((token, id) => [token, id]))
    this.ids = ids
    const missing = REQUIRED_TOKENS.filter((token) => !ids.has(token))
    if (missing.length > 0) {
      const message = `Expected the tokens ${REQUIRED_TOKENS.join(', ')} in ${source}, missing ${missing.join(', ')}`
      throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { source, missing })
    }
    this.hidden = new Set(
      [...REQUIRED_TOKENS, '[MASK]'].flatMap((token) => (ids.has(token) ? [ids.get(token)!] : [])),
    )
    this.#pieces = new WordPiece(tokens, { lowerCase, unknown: this.special.unk })
  }

  get files(): TokenizerFile[] {
    const config = { tokenizer_class: 'BertTokenizer', do_lower_case: this.#pieces.lowerCase }
    return [
      { name: 'vocab.txt', text: this.tokens.map((token) => `${token}\n`).join('') },
      { name: 'tokenizer_config.json', text: `${JSON.stringify(config, null, 2)}\n` },
    ]
  }

  get fitsOneFile(): boolean {
    return this.#pieces.lowerCase
  }

  encode(text: string): number[] {
    return this.#pieces.tokenize(text).map((piece) => this.ids.get(piece)!)
  }

  decode(ids: readonly number[]): string {
    const pieces = ids.map((id) => this.tokens[id]!)
    return joinPieces(pieces, this.#pieces.lowerCase)
  }
}
