import { VilgError } from '../errors.ts'
import { describeValue } from '../validate.ts'
import { joinPieces } from './join-pieces.ts'
import type { SpecialTokens, TextModel, TokenizerFile } from './text-model.ts'
import { parseJsonObject } from './vocabulary-file.ts'
import { CONTINUATION } from './word-piece.ts'

// What this module uses of @huggingface/tokenizers. The declarations of its version 0.2.0 import each other without file
// extensions, which `nodenext` resolution refuses, so they cannot be used here; see `loadLibrary`.
interface Tokenizer {
  encode(
    text: string,
    options: { add_special_tokens: boolean },
  ): { ids: (number | undefined)[]; tokens: string[] }
  decode(ids: number[]): string
  get_vocab(withAddedTokens: boolean): Map<string | undefined, number>
  get_added_tokens_decoder(): Map<number, { special: boolean }>
}
type TokenizerConstructor = new (tokenizer: object, config: object) => Tokenizer

/** Loads the library when first needed: a vocab.txt does without. */
async function loadLibrary(): Promise<TokenizerConstructor> {
  const specifier: string = '@huggingface/tokenizers' // a variable, so that the compiler looks for no declarations
  const library = (await import(specifier)) as { Tokenizer: TokenizerConstructor }
  return library.Tokenizer
}

// Under which names tokenizers keep the tokens that this library needs: the key of tokenizer_config.json first, then the names
// that models use. A model without CLS and SEP begins and ends a text with its BOS and EOS, so those stand in.
const specialNames = {
  pad: { keys: ['pad_token'], names: ['[PAD]', '<pad>', '<|pad|>', '<|endoftext|>'] },
  cls: {
    keys: ['cls_token', 'bos_token'],
    names: ['[CLS]', '<s>', '<bos>', '<|startoftext|>', '<|endoftext|>'],
  },
  sep: { keys: ['sep_token', 'eos_token'], names: ['[SEP]', '</s>', '<eos>', '<|endoftext|>'] },
  unk: { keys: ['unk_token'], names: ['[UNK]', '<unk>'] },
} as const

/** Any tokenizer that a Hugging Face tokenizer.json describes. */
export class TokenizerJsonModel implements TextModel {
  readonly tokens: readonly (string | undefined)[]
  readonly ids: ReadonlyMap<string, number>
  readonly special: SpecialTokens
  readonly hidden: ReadonlySet<number>
  readonly files: readonly TokenizerFile[]
  readonly fitsOneFile: boolean
  readonly #tokenizer: Tokenizer
  readonly #lowerCase: boolean
  readonly #hasPieces: boolean

  /**
   * @param text tokenizer.json
   * @param configText tokenizer_config.json, where there is one
   * @param source the path of the former, for errors
   */
  static async parse(
    text: string,
    configText: string | undefined,
    source: string,
  ): Promise<TokenizerJsonModel> {
    const json = parseJsonObject(text, source)
    const config = configText === undefined ? {} : parseJsonObject(configText, `${source} (its config)`)
    checkIds(json, source)
    const Library = await loadLibrary()
    let tokenizer: Tokenizer
    try {
      tokenizer = new Library(json, config)
    } catch (cause) {
      const message = `Expected a tokenizer in ${source}: ${(cause as Error).message}`
      throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { source }, { cause })
    }
    return new TokenizerJsonModel(tokenizer, json, config, { text, configText, source })
  }

  private constructor(
    tokenizer: Tokenizer,
    json: Record<string, unknown>,
    config: Record<string, unknown>,
    { text, configText, source }: { text: string; configText: string | undefined; source: string },
  ) {
    this.#tokenizer = tokenizer
    const model = json.model as Record<string, unknown>
    this.#hasPieces =
      model.type === 'WordPiece' && (model.continuing_subword_prefix ?? CONTINUATION) === CONTINUATION
    this.#lowerCase = (json.normalizer as { lowercase?: unknown } | null)?.lowercase === true
    const ids = new Map<string, number>()
    const tokens: (string | undefined)[] = []
    for (const [token, id] of this.#tokenizer.get_vocab(true)) {
      if (token === undefined) continue // a hole in the ids, which get_vocab hands out too
      ids.set(token, id)
      tokens[id] = token
    }
    this.ids = ids
    this.tokens = tokens
    this.special = findSpecial(ids, config, json, source)
    const hidden = new Set(Object.values(this.special).map((token: string) => ids.get(token)!))
    for (const [id, token] of this.#tokenizer.get_added_tokens_decoder()) if (token.special) hidden.add(id)
    this.hidden = hidden
    this.fitsOneFile = configText === undefined
    this.files = [
      { name: 'tokenizer.json', text },
      ...(configText === undefined ? [] : [{ name: 'tokenizer_config.json', text: configText }]),
    ]
  }

  encode(text: string): number[] {
    const { ids, tokens } = this.#tokenizer.encode(text, { add_special_tokens: false })
    return ids.map((id, index) => {
      // The library leaves undefined where a token is not in the vocabulary and there is no token for unknown ones.
      const known = id ?? (this.special.unk === undefined ? undefined : this.ids.get(this.special.unk))
      if (known !== undefined) return known
      const message = `The tokenizer cannot write ${JSON.stringify(tokens[index])} and has no token for unknown text`
      throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', message, { token: tokens[index] })
    })
  }

  decode(ids: readonly number[]): string {
    // The library's own decoder for pieces puts spaces between ideographs.
    if (this.#hasPieces) {
      const pieces = ids.map((id) => this.tokens[id]!)
      return joinPieces(pieces, this.#lowerCase)
    }
    return ids.length === 0 ? '' : this.#tokenizer.decode([...ids]) // the library refuses an empty list
  }
}

// The largest vocabularies in use have about 2 ** 18 tokens.
const highestId = 2 ** 24

/** The library makes an array as long as the highest id, so a file that lies about one could take all memory. */
function checkIds(json: Record<string, unknown>, source: string): void {
  const vocabulary = (json.model as { vocab?: unknown } | null | undefined)?.vocab
  const ids: unknown[] =
    typeof vocabulary === 'object' && vocabulary !== null && !Array.isArray(vocabulary)
      ? Object.values(vocabulary)
      : []
  if (Array.isArray(json.added_tokens)) {
    for (const token of json.added_tokens) ids.push((token as { id?: unknown } | null)?.id)
  }
  for (const id of ids) {
    if (Number.isInteger(id) && (id as number) >= 0 && (id as number) <= highestId) continue
    const message = `Expected token ids from 0 to ${highestId} in ${source}, found ${describeValue(id)}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { source })
  }
}

function findSpecial(
  ids: ReadonlyMap<string, number>,
  config: Record<string, unknown>,
  json: Record<string, unknown>,
  source: string,
): SpecialTokens {
  const find = (kind: keyof typeof specialNames): string | undefined => {
    const { keys, names } = specialNames[kind]
    const candidates = [...keys.map((key) => contentOf(config[key])), ...names]
    if (kind === 'unk') candidates.splice(1, 0, contentOf((json.model as { unk_token?: unknown }).unk_token))
    return candidates.find((name) => name !== undefined && ids.has(name))
  }
  const [pad, cls, sep] = (['pad', 'cls', 'sep'] as const).map((kind) => {
    const token = find(kind)
    if (token !== undefined) return token
    const { keys, names } = specialNames[kind]
    const message =
      `Expected a ${kind.toUpperCase()} token in ${source}: none of ${names.join(', ')} is in its vocabulary, ` +
      `and no ${keys.join(' or ')} of tokenizer_config.json`
    throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', message, { source, names })
  })
  const unk = find('unk')
  return { pad: pad!, cls: cls!, sep: sep!, ...(unk === undefined ? {} : { unk }) }
}

/** A token is written as a string or as an object with its text in `content`. */
function contentOf(value: unknown): string | undefined {
  const content =
    typeof value === 'object' && value !== null ? (value as { content?: unknown }).content : value
  return typeof content === 'string' ? content : undefined
}
