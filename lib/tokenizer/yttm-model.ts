import { VilgError } from '../errors.ts'
import { mergePairs, type PairRules } from './merge-pairs.ts'
import type { SpecialTokens, TextModel, TokenizerFile } from './text-model.ts'
import { parseYttm, WORD_START, type YttmFile } from './yttm-file.ts'

/** The file of a tokenizer of YouTokenToMe in a folder, as ru-dalle and RuDOLPH call it. */
export const YTTM_FILE = 'bpe.model'

const specialNames = { unk: '<UNK>', pad: '<PAD>', bos: '<BOS>', eos: '<EOS>' } as const
// Words have some tens of characters; rules that double again and again would make tokens of any length
const longestToken = 4096
// White space of C's isspace, and what stands for it
const spaces = /[ \t\n\v\f\r\u2581]+/

/** Byte-pair encoding of YouTokenToMe (VKCOM/YouTokenToMe, `BaseEncoder` of bpe.cpp). BOS and EOS stand in for CLS and SEP. */
export class YttmModel implements TextModel {
  readonly tokens: readonly (string | undefined)[]
  readonly ids: ReadonlyMap<string, number>
  readonly special: SpecialTokens
  readonly hidden: ReadonlySet<number>
  readonly files: readonly TokenizerFile[]
  readonly fitsOneFile: boolean
  readonly #file: YttmFile
  readonly #rules: PairRules
  readonly #lowerCase: boolean

  /**
   * @param text the model file
   * @param lowerCase whether texts are written in lower case, as the models of ru-dalle and RuDOLPH have been trained
   * @param source the path of the file, for errors
   */
  constructor(text: string, lowerCase: boolean, source: string) {
    this.#file = parseYttm(text, source)
    this.#lowerCase = lowerCase
    this.#rules = new Map(
      this.#file.rules.map(({ left, right, whole }, rank) => [pairKey(left, right), { rank, whole }]),
    )
    const tokens = tokensOf(this.#file, source)
    const ids = new Map<string, number>()
    tokens.forEach((token, id) => token !== undefined && ids.set(token, id))
    const { special } = this.#file
    const kinds = Object.keys(specialNames) as (keyof typeof specialNames)[]
    for (const kind of kinds) {
      if (special[kind] < 0) continue
      tokens[special[kind]] = specialNames[kind]
      ids.set(specialNames[kind], special[kind])
    }
    const missing = (['pad', 'bos', 'eos'] as const).filter((kind) => special[kind] < 0)
    if (missing.length > 0) {
      const message = `Expected a model of YouTokenToMe with PAD, BOS and EOS in ${source}, found one without ${missing.join(', ').toUpperCase()}`
      throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', message, { path: source, missing })
    }
    this.tokens = tokens
    this.ids = ids
    this.special = {
      pad: specialNames.pad,
      cls: specialNames.bos,
      sep: specialNames.eos,
      ...(special.unk < 0 ? {} : { unk: specialNames.unk }),
    }
    this.hidden = new Set(kinds.map((kind) => special[kind]).filter((id) => id >= 0))
    const config = { tokenizer_class: 'YouTokenToMe', do_lower_case: lowerCase }
    this.files = [
      { name: YTTM_FILE, text },
      { name: 'tokenizer_config.json', text: `${JSON.stringify(config, null, 2)}\n` },
    ]
    this.fitsOneFile = lowerCase
  }

  encode(text: string): number[] {
    const cased = this.#lowerCase ? text.toLowerCase() : text
    const words = cased.split(spaces).filter((word) => word !== '')
    return words.flatMap((word) => this.#encodeWord(word))
  }

  #encodeWord(word: string): number[] {
    const { characters, special } = this.#file
    const symbols = [characters.get(WORD_START)!]
    for (const character of word) {
      const id = characters.get(character)
      if (id !== undefined) {
        symbols.push(id)
      } else if (special.unk < 0) {
        const message = `The tokenizer cannot write ${JSON.stringify(character)} and has no token for unknown text`
        throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', message, { token: character })
      } else if (symbols.at(-1) !== special.unk) {
        symbols.push(special.unk) // one for all unknown characters that follow each other
      }
    }
    return mergePairs(symbols, this.#rules, pairKey)
  }

  decode(ids: readonly number[]): string {
    const text = ids.map((id) => this.tokens[id]!.replace(WORD_START, ' ')).join('')
    return text.startsWith(' ') ? text.slice(1) : text
  }
}

/** One number for two ids of at most 2^24. */
function pairKey(left: number, right: number): number {
  return left * 2 ** 25 + right
}

/** Token by id, without the special ones. */
function tokensOf({ characters, rules, special }: YttmFile, source: string): (string | undefined)[] {
  const ids = [...characters.values(), ...rules.map(({ whole }) => whole), ...Object.values(special)]
  const highest = ids.reduce((most, id) => Math.max(most, id), 0)
  const tokens = new Array<string | undefined>(highest + 1).fill(undefined)
  for (const [character, id] of characters) tokens[id] = character
  for (const { left, right, whole } of rules) {
    const token = tokens[left]! + tokens[right]!
    if (token.length > longestToken) {
      const message = `Expected tokens of at most ${longestToken} characters in ${source}, found token ${whole} with ${token.length}`
      throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path: source })
    }
    tokens[whole] = token
  }
  return tokens
}
