/**
 * The stem of an English word by Porter's algorithm ("An algorithm for suffix stripping", Program 14(3), 1980) with the changes that NLTK
 * makes to it by default: a table of irregular words, words of two letters left alone, `-ies` and `-ied` of four letters kept as `-ie`, `y` to
 * `i` after a consonant only, `-alli` first in step 2, and `-bli`, `-fulli` and `-logi` there.
 *
 * @param word any text; made lower-case
 */
export function porterStem(word: string): string {
  const lower = word.toLowerCase()
  const known = irregular.get(lower)
  if (known !== undefined) return known
  if (lower.length <= 2) return lower
  let stem = plural(lower)
  stem = past(stem)
  stem = finalY(stem)
  stem = doubleSuffix(stem)
  stem = replaceFirst(stem, step3, positive)
  stem = replaceFirst(stem, step4, longStem)
  stem = finalE(stem)
  return stem.endsWith('ll') && measure(stem.slice(0, -1)) > 1 ? stem.slice(0, -1) : stem
}

const irregular: ReadonlyMap<string, string> = new Map([
  ['sky', 'sky'],
  ['skies', 'sky'],
  ['dying', 'die'],
  ['lying', 'lie'],
  ['tying', 'tie'],
  ['news', 'news'],
  ['innings', 'inning'],
  ['inning', 'inning'],
  ['outings', 'outing'],
  ['outing', 'outing'],
  ['cannings', 'canning'],
  ['canning', 'canning'],
  ['howe', 'howe'],
  ['proceed', 'proceed'],
  ['exceed', 'exceed'],
  ['succeed', 'succeed'],
])

/** A suffix and what takes its place. */
type Rule = readonly [suffix: string, replacement: string]

const step1a: readonly Rule[] = [
  ['sses', 'ss'],
  ['ies', 'i'],
  ['ss', 'ss'],
  ['s', ''],
]
const step2: readonly Rule[] = [
  ['ational', 'ate'],
  ['tional', 'tion'],
  ['enci', 'ence'],
  ['anci', 'ance'],
  ['izer', 'ize'],
  ['bli', 'ble'],
  ['alli', 'al'],
  ['entli', 'ent'],
  ['eli', 'e'],
  ['ousli', 'ous'],
  ['ization', 'ize'],
  ['ation', 'ate'],
  ['ator', 'ate'],
  ['alism', 'al'],
  ['iveness', 'ive'],
  ['fulness', 'ful'],
  ['ousness', 'ous'],
  ['aliti', 'al'],
  ['iviti', 'ive'],
  ['biliti', 'ble'],
  ['fulli', 'ful'],
  ['logi', 'log'],
]
const step3: readonly Rule[] = [
  ['icate', 'ic'],
  ['ative', ''],
  ['alize', 'al'],
  ['iciti', 'ic'],
  ['ical', 'ic'],
  ['ful', ''],
  ['ness', ''],
]
const step4: readonly Rule[] =
  'al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize'
    .split(' ')
    .map((suffix) => [suffix, ''])

/** Applies the first rule whose suffix the word has, if the rest meets the condition; no later rule is tried where it does not. */
function replaceFirst(
  word: string,
  rules: readonly Rule[],
  condition: (stem: string, suffix: string) => boolean,
): string {
  for (const [suffix, replacement] of rules) {
    if (!word.endsWith(suffix)) continue
    const stem = word.slice(0, word.length - suffix.length)
    return condition(stem, suffix) ? stem + replacement : word
  }
  return word
}

/** For each letter whether it is a consonant: no vowel, and a y only where no consonant comes before it. */
function consonants(word: string): boolean[] {
  const flags: boolean[] = []
  for (const letter of word) {
    flags.push(letter === 'y' ? flags.length === 0 || !flags.at(-1) : !'aeiou'.includes(letter))
  }
  return flags
}

/** Porter's m: how often a consonant follows a vowel. */
function measure(stem: string): number {
  return consonants(stem).filter((isConsonant, i, all) => isConsonant && all[i - 1] === false).length
}

function positive(stem: string, suffix: string): boolean {
  // the l of -logi counts as the stem's, so that `geologi` becomes `geolog`
  return measure(suffix === 'logi' ? `${stem}l` : stem) > 0
}

function longStem(stem: string, suffix: string): boolean {
  return measure(stem) > 1 && (suffix !== 'ion' || /[st]$/.test(stem))
}

/** Porter's *o: consonant, vowel, consonant other than w, x, y at the end; or a word that is vowel and consonant. */
function endsShort(word: string): boolean {
  const flags = consonants(word)
  if (flags.length === 2) return !flags[0] && flags[1]!
  const [first, second, third] = flags.slice(-3)
  return flags.length >= 3 && first! && !second && third! && !/[wxy]$/.test(word)
}

function plural(word: string): string {
  if (word.length === 4 && word.endsWith('ies')) return word.slice(0, -1)
  return replaceFirst(word, step1a, () => true)
}

function past(word: string): string {
  if (word.endsWith('ied')) return word.slice(0, word.length === 4 ? -1 : -2)
  if (word.endsWith('eed')) return measure(word.slice(0, -3)) > 0 ? word.slice(0, -1) : word
  const suffix = ['ed', 'ing'].find(
    (one) => word.endsWith(one) && consonants(word.slice(0, -one.length)).includes(false),
  )
  if (suffix === undefined) return word
  const stem = word.slice(0, -suffix.length)
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`
  const last = stem.at(-1)!
  if (stem.at(-2) === last && consonants(stem).at(-1)) return 'lsz'.includes(last) ? stem : stem.slice(0, -1)
  return measure(stem) === 1 && endsShort(stem) ? `${stem}e` : stem
}

function finalY(word: string): string {
  const stem = word.slice(0, -1)
  return word.endsWith('y') && stem.length > 1 && consonants(stem).at(-1) ? `${stem}i` : word
}

function doubleSuffix(word: string): string {
  const isAlli = word.endsWith('alli') && measure(word.slice(0, -4)) > 0
  return replaceFirst(isAlli ? word.slice(0, -2) : word, step2, positive)
}

function finalE(word: string): string {
  if (!word.endsWith('e')) return word
  const stem = word.slice(0, -1)
  const m = measure(stem)
  return m > 1 || (m === 1 && !endsShort(stem)) ? stem : word
}
