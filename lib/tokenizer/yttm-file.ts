import { VilgError } from '../errors.ts'

/** The character that begins every word, in place of the space before it. */
export const WORD_START = '\u2581'

/** Two tokens that become one, all by their ids. */
export interface BpeRule {
  left: number
  right: number
  whole: number
}

/** What a model file of YouTokenToMe says. */
export interface YttmFile {
  /** Id by character. */
  characters: ReadonlyMap<string, number>
  /** In the order in which they apply. */
  rules: readonly BpeRule[]
  /** Ids of the special tokens; -1 for those that the model does without. */
  special: Readonly<Record<(typeof specialOrder)[number], number>>
}

const specialOrder = ['unk', 'pad', 'bos', 'eos'] as const
// As for the other tokenizers: the largest vocabularies in use have about 2 ** 18 tokens
const highestId = 2 ** 24

/**
 * Parses a model file of YouTokenToMe (VKCOM/YouTokenToMe, `BPEState` of utils.cpp): whole numbers in decimal with white space between
 * them. How many characters and rules there are, code point and id of each character, the ids of the parts and of the whole of each rule,
 * and the ids of UNK, PAD, BOS and EOS.
 *
 * @param source what the file is called in an error
 * @throws ERR_VILG_CHECKPOINT_FORMAT
 */
export function parseYttm(text: string, source: string): YttmFile {
  const fail = (expected: string): never => {
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', `Expected ${expected} in ${source}`, { path: source })
  }
  const words = text.split(/\s+/).filter((word) => word !== '')
  let at = 0
  const number = (what: string, min: number, max: number): number => {
    const word = words[at++]
    const value = word !== undefined && /^-?\d{1,10}$/.test(word) ? Number(word) : NaN
    if (value >= min && value <= max) return value
    const found = word === undefined ? 'the end of the file' : JSON.stringify(word.slice(0, 20))
    return fail(`a model of YouTokenToMe with ${what} from ${min} to ${max}, found ${found} as number ${at}`)
  }
  const numCharacters = number('a number of characters', 1, highestId)
  const numRules = number('a number of rules', 0, highestId)
  const expected = 2 + 2 * numCharacters + 3 * numRules + specialOrder.length
  if (words.length !== expected) {
    fail(`${expected} numbers for ${numCharacters} characters and ${numRules} rules, found ${words.length}`)
  }
  const known = new Set<number>()
  const newId = (): number => {
    const id = number('an id', 0, highestId)
    if (known.has(id)) fail(`each id once, found ${id} twice`)
    known.add(id)
    return id
  }
  const knownId = (): number => {
    const id = number('an id', 0, highestId)
    return known.has(id) ? id : fail(`rules over tokens that come before them, found ${id}`)
  }
  const characters = new Map<string, number>()
  for (let i = 0; i < numCharacters; i++) {
    const character = String.fromCodePoint(number('a code point', 0, 0x10ffff))
    if (characters.has(character)) fail(`each character once, found ${JSON.stringify(character)} twice`)
    characters.set(character, newId())
  }
  if (!characters.has(WORD_START)) fail('U+2581 among the characters, by which words begin,')
  const rules: BpeRule[] = []
  for (let i = 0; i < numRules; i++) rules.push({ left: knownId(), right: knownId(), whole: newId() })
  const ids = specialOrder.map((name) => {
    const id = number(`the id of ${name.toUpperCase()}`, -1, highestId)
    if (id >= 0 && known.has(id)) fail(`each id once, found ${id}, of ${name.toUpperCase()}, twice`)
    known.add(id)
    return id
  })
  return { characters, rules, special: { unk: ids[0]!, pad: ids[1]!, bos: ids[2]!, eos: ids[3]! } }
}
