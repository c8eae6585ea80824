import { rejectUnknownKeys, typeMismatch } from '../../validate.ts'
import { porterStem } from './porter-stemmer.ts'
import { checkCaptions, type TokenizedCaption } from './tokens.ts'

/** Options of {@link meteor}. */
export interface MeteorOptions {
  /** Words that mean the same as a word (lower-case both); none unless given. NLTK asks WordNet, which does not ship with this library. */
  synonyms?: (word: string) => Iterable<string>
}

/** Weight of precision, steepness and weight of the penalty: NLTK's defaults, those of the first METEOR. */
const alpha = 0.9
const beta = 3
const gamma = 0.5

/** A token with its place in the caption. */
interface Placed {
  place: number
  token: string
}
/** The place of a candidate's token, and that of the reference's token it was matched with. */
type Match = [candidate: number, reference: number]

/**
 * METEOR as NLTK's `meteor_score` defines it (Lavie and Agarwal, "METEOR: an automatic metric for MT evaluation with high levels of correlation with
 * human judgments", 2007): tokens are matched as they are, then by their Porter stems, then by synonyms where they are given, each time from the last
 * token to the first with the last free one of the reference. P R / (0.9 P + 0.1 R), less a penalty of 0.5 (chunks / matches)^3; the best
 * reference counts.
 *
 * This is not the METEOR 1.5 program (Java, with tables of paraphrases) whose numbers papers on captions report: compare with numbers of the
 * same definition only. NLTK looks synonyms up by stem; here they are looked up by the word itself.
 *
 * @returns `corpus`: the mean of `items`. In [0, 1].
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function meteor(
  captions: readonly TokenizedCaption[],
  options: MeteorOptions = {},
): { corpus: number; items: number[] } {
  rejectUnknownKeys('meteor options', options, ['synonyms'])
  const { synonyms } = options
  if (synonyms !== undefined && typeof synonyms !== 'function') {
    throw typeMismatch('synonyms', 'a function', synonyms)
  }
  const stems = new Map<string, string>()
  const stem = (word: string): string => {
    const known = stems.get(word)
    if (known !== undefined) return known
    const found = porterStem(word)
    stems.set(word, found)
    return found
  }
  const items = checkCaptions(captions).map(({ candidate, references }) =>
    Math.max(...references.map((reference) => score(candidate, reference, stem, synonyms))),
  )
  return { corpus: items.reduce((sum, one) => sum + one, 0) / items.length, items }
}

function score(
  candidate: readonly string[],
  reference: readonly string[],
  stem: (word: string) => string,
  synonyms: MeteorOptions['synonyms'],
): number {
  const own = candidate.map((token, place) => ({ token: token.toLowerCase(), place }))
  const other = reference.map((token, place) => ({ token: token.toLowerCase(), place }))
  const matches = [...takeMatches(own, other), ...takeMatches(own, other, stem)]
  if (synonyms) matches.push(...takeSynonyms(own, other, synonyms))
  if (matches.length === 0) return 0
  matches.sort(([a], [b]) => a - b)
  const precision = matches.length / candidate.length
  const recall = matches.length / reference.length
  const mean = (precision * recall) / (alpha * precision + (1 - alpha) * recall)
  return (1 - gamma * (countChunks(matches) / matches.length) ** beta) * mean
}

/** Matches tokens whose keys are the same and takes them out of both lists. */
function takeMatches(own: Placed[], other: Placed[], key = (token: string) => token): Match[] {
  const free = new Map<string, Placed[]>()
  for (const one of other) {
    const same = key(one.token)
    const list = free.get(same)
    if (list) list.push(one)
    else free.set(same, [one])
  }
  const matches: Match[] = []
  for (let i = own.length - 1; i >= 0; i--) {
    const found = free.get(key(own[i]!.token))?.pop()
    if (found) take(own, i, other, found, matches)
  }
  return matches
}

/** The same of tokens that are a synonym of the candidate's. */
function takeSynonyms(own: Placed[], other: Placed[], synonyms: (word: string) => Iterable<string>): Match[] {
  const matches: Match[] = []
  for (let i = own.length - 1; i >= 0; i--) {
    const words = new Set(synonyms(own[i]!.token))
    const found = other.findLast(({ token }) => words.has(token))
    if (found) take(own, i, other, found, matches)
  }
  return matches
}

function take(own: Placed[], i: number, other: Placed[], found: Placed, matches: Match[]): void {
  const [one] = own.splice(i, 1)
  other.splice(other.indexOf(found), 1)
  matches.push([one!.place, found.place])
}

/** Runs of matches that follow each other in both captions. */
function countChunks(matches: readonly Match[]): number {
  return matches.filter(([own, other], i) => {
    const before = matches[i - 1]
    return before === undefined || own !== before[0] + 1 || other !== before[1] + 1
  }).length
}
