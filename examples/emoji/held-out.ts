import { CounterRandom } from '../../lib/data/random.ts'

/** A picture as a choice of attributes within its family: a person of this kind, of that skin tone, that gender, that way. */
export interface Combination {
  /** What all pictures of the family have in common. */
  family: string
  /** One value for each attribute; the same attributes in the same order for all of a family. */
  attributes: readonly string[]
}

const zeroWidthJoiner = '200D'
const emojiVariation = 'FE0F'
const facingRight = '27A1'
const skinTone = /^1F3F[B-F]$/
const people: Readonly<Record<string, string>> = { '1F468': 'male', '1F469': 'female', '1F9D1': 'person' }
const signs: Readonly<Record<string, string>> = { '2642': 'male', '2640': 'female' }
// Pairs that have one code point of their own where both have the same skin tone, and a sequence where they do not.
const pairSequences: Readonly<Record<string, readonly string[]>> = {
  '1F46B': ['1F469', '1F91D', '1F468'],
  '1F46C': ['1F468', '1F91D', '1F468'],
  '1F46D': ['1F469', '1F91D', '1F469'],
  '1F48F': ['1F9D1', '2764', '1F48B', '1F9D1'],
  '1F491': ['1F9D1', '2764', '1F9D1'],
  '1F91D': ['1FAF1', '1FAF2'],
}

/** The family and the attributes of an emoji, given as code points in hexadecimal joined by `-`, such as `1F44B-1F3FB`. */
export function combinationOf(unified: string): Combination {
  const codes = unified.split('-').filter((code) => code !== zeroWidthJoiner && code !== emojiVariation)
  const family: string[] = []
  const genders: string[] = []
  const tones: string[] = []
  let direction = 'left'
  const [first, second] = codes
  const pair =
    codes.length <= 2 && (second === undefined || skinTone.test(second)) ? pairSequences[first!] : undefined
  for (const code of pair ?? codes) {
    if (skinTone.test(code)) tones[tones.length - 1] = code
    else if (code in signs) genders[genders.length - 1] = signs[code]!
    else if (code === facingRight) direction = 'right'
    else {
      family.push(code in people ? 'person' : code)
      genders.push(people[code] ?? 'none')
      tones.push('none')
    }
  }
  if (pair !== undefined && second !== undefined) {
    for (const i of pair.keys()) if (pair[i]! in people || first === '1F91D') tones[i] = second
  }
  return { family: family.join('-'), attributes: [...genders, ...tones, direction] }
}

/**
 * Chooses the pictures that training never sees: combinations of attributes whose parts it does see.
 *
 * Every chosen picture has a skin tone or a gender, keeps at least two siblings in training (pictures of its family that
 * differ from it in one attribute only), and looks like none that is trained on.
 *
 * @param unified the emoji, as in {@link combinationOf}
 * @param twins for each picture, the index of the first that has the very same pixels (its own, if none before)
 * @param share the share of the pictures to choose, from 0 to 1
 * @returns their indices, ascending
 */
export function chooseHeldOut(
  unified: readonly string[],
  twins: readonly number[],
  { seed, share }: { seed: number; share: number },
): number[] {
  const minSiblings = 2
  const combinations = unified.map(combinationOf)
  const families = new Map<string, number[]>()
  for (const [i, { family }] of combinations.entries()) {
    const members = families.get(family)
    if (members === undefined) families.set(family, [i])
    else members.push(i)
  }
  const siblings = combinations.map(({ family, attributes }) =>
    families.get(family)!.filter((other) => differences(attributes, combinations[other]!.attributes) === 1),
  )
  const looksUnique = twins.map((twin, i) => twin === i && !twins.includes(i, i + 1))
  const chosen = new Set<number>()
  const inTraining = (i: number) => siblings[i]!.filter((sibling) => !chosen.has(sibling)).length
  const target = Math.round(unified.length * share)
  for (const i of new CounterRandom(seed).shuffled([...combinations.keys()])) {
    if (chosen.size >= target) break
    const { attributes } = combinations[i]!
    const isCombined = attributes.slice(0, -1).some((value) => value !== 'none' && value !== 'person')
    if (!isCombined || !looksUnique[i] || inTraining(i) < minSiblings) continue
    chosen.add(i)
    const starved = siblings[i]!.some((sibling) => chosen.has(sibling) && inTraining(sibling) < minSiblings)
    if (starved) chosen.delete(i)
  }
  return [...chosen].sort((a, b) => a - b)
}

function differences(a: readonly string[], b: readonly string[]): number {
  return a.reduce((sum, value, i) => sum + (value === b[i] ? 0 : 1), 0)
}
