/** The tokens that frame a text, as token strings. */
export interface SpecialTokens {
  pad: string
  cls: string
  sep: string
  /** Absent where every text can be written, as with bytes. */
  unk?: string
}

/** A file that a tokenizer is kept in: its name in a folder and what is in it. */
export interface TokenizerFile {
  name: string
  text: string
}

/** What stands behind a TextTokenizer: one way to cut a text into tokens of a fixed vocabulary, and back. */
export interface TextModel {
  /** Token by id. A hole in the ids is `undefined`. */
  readonly tokens: readonly (string | undefined)[]
  /** Id by token; of a token that is there twice, the last, as in BERT. */
  readonly ids: ReadonlyMap<string, number>
  readonly special: SpecialTokens
  /** Ids that never show in a decoded text. */
  readonly hidden: ReadonlySet<number>
  /** The files to keep it in; the first is the one that `load` looks for. */
  readonly files: readonly TokenizerFile[]
  /** Whether the first file alone says everything. */
  readonly fitsOneFile: boolean
  /** The token ids of a text, without CLS and SEP. */
  encode(text: string): number[]
  /** The text of ids that are in the vocabulary and not hidden. */
  decode(ids: readonly number[]): string
}
