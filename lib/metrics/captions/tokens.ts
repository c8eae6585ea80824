import { expectOneOf, outOfRange, typeMismatch } from '../../validate.ts'

/**
 * How captions become tokens: `words` ({@link wordTokens}), `characters` ({@link characterTokens}), `spaces` (tokenised already: split at
 * white space, nothing else).
 */
export const CAPTION_TOKENS = Object.freeze(['words', 'characters', 'spaces'] as const)

/** One of {@link CAPTION_TOKENS}, or a function of the caller's. */
export type CaptionTokens = (typeof CAPTION_TOKENS)[number] | ((text: string) => readonly string[])

/** A caption with the captions that people gave the same picture, as tokens. */
export interface TokenizedCaption {
  candidate: readonly string[]
  /** At least one. */
  references: readonly (readonly string[])[]
}

// clitics that the Penn Treebank writes as tokens of their own: don't -> do n't, cat's -> cat 's
const clitic = /^(.+?)(n't|'(?:s|m|d|ll|re|ve))$/
const cannot = /^(can)(not)$/
// an abbreviation of single letters; a word or number, with hyphens and apostrophes inside, and points and the like between digits; any
// other symbol
const token =
  /(?:\p{L}\.){2,}|[\p{L}\p{N}\p{M}_]+(?:(?:['-]|(?<=\p{N})[.,:/](?=\p{N}))[\p{L}\p{N}\p{M}_]+)*|[^\s\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Pd}.?!,:;'"`…]/gu

/**
 * The words of an English caption, near to what coco-caption makes with Stanford's PTBTokenizer: lower-case, clitics apart (`don't` is
 * `do n't`, `cat's` is `cat 's`), words with a hyphen whole, punctuation left out. (coco-caption leaves out 17 punctuation tokens after tokenising:
 * quotes, brackets, `.`, `?`, `!`, `,`, `:`, `-`, `--`, `...`, `;`.) It is not Stanford's program: for its very tokens, run that and give `spaces`.
 */
export function wordTokens(text: string): string[] {
  const words = text.toLowerCase().replaceAll('’', "'").match(token) ?? []
  return words.flatMap((word) => {
    const parts = clitic.exec(word) ?? cannot.exec(word)
    return parts ? parts.slice(1) : [word]
  })
}

/** The characters of a caption without white space, lower-case, as captions in Chinese are compared (ERNIE-ViLG, 4.3, on COCO-CN). */
export function characterTokens(text: string): string[] {
  return [...text.toLowerCase().replace(/\s+/gu, '')]
}

/** @internal */
export function captionTokenizer(name: string, tokens: unknown): (text: string) => readonly string[] {
  if (typeof tokens === 'function') {
    return (text) => checkTokens(name, (tokens as (text: string) => unknown)(text))
  }
  switch (expectOneOf(name, tokens, CAPTION_TOKENS)) {
    case 'words':
      return wordTokens
    case 'characters':
      return characterTokens
    case 'spaces':
      return (text) => text.split(/\s+/u).filter((one) => one !== '')
  }
}

function checkTokens(name: string, value: unknown): readonly string[] {
  if (!Array.isArray(value) || value.some((one) => typeof one !== 'string')) {
    throw typeMismatch(`what ${name} returns`, 'an array of strings', value)
  }
  return value as string[]
}

/** @internal Checks what every metric of captions is given. */
export function checkCaptions(captions: unknown): readonly TokenizedCaption[] {
  if (!Array.isArray(captions)) throw typeMismatch('captions', 'an array', captions)
  if (captions.length === 0) throw outOfRange('captions', 'at least one caption', captions)
  captions.forEach((caption: Partial<TokenizedCaption> | null, i) => {
    checkTokenList(`captions[${i}].candidate`, caption?.candidate)
    const references: unknown = caption?.references
    const name = `captions[${i}].references`
    if (!Array.isArray(references)) throw typeMismatch(name, 'an array of token lists', references)
    if (references.length === 0) throw outOfRange(name, 'at least one reference', references)
    references.forEach((reference, j) => checkTokenList(`${name}[${j}]`, reference))
  })
  return captions as TokenizedCaption[]
}

function checkTokenList(name: string, tokens: unknown): void {
  if (!Array.isArray(tokens)) throw typeMismatch(name, 'an array of strings', tokens)
  const wrong = tokens.findIndex((one) => typeof one !== 'string')
  if (wrong >= 0) throw typeMismatch(`${name}[${wrong}]`, 'a string', tokens[wrong])
}
