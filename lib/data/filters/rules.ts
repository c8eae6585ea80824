import { expectOneOf } from '../../validate.ts'
import { characterRule, nounRule, wordCountRule } from './caption-rules.ts'
import { duplicateRule, nearDuplicateRule } from './duplicate-rules.ts'
import type { FilterRule } from './rule.ts'
import { jiebaSegmenter } from './words.ts'

/** Rules that need nothing but their name, in the order of the paper (3.2.1). */
export const RULE_NAMES = Object.freeze([
  'words',
  'nouns',
  'characters',
  'duplicates',
  'near-duplicates',
] as const)

/** One of {@link RULE_NAMES}. */
export type RuleName = (typeof RULE_NAMES)[number]

/**
 * Makes rules by their names, with their defaults.
 *
 * @throws ERR_VILG_UNSUPPORTED where one needs a package that is not installed
 */
export async function makeRules(names: readonly RuleName[]): Promise<FilterRule[]> {
  const needsWords = names.some((name) => name === 'words' || name === 'nouns')
  const segment = needsWords ? await jiebaSegmenter() : () => []
  const make = {
    words: () => wordCountRule(segment),
    nouns: () => nounRule(segment),
    characters: () => characterRule(),
    duplicates: () => duplicateRule(),
    'near-duplicates': () => nearDuplicateRule(),
  } as const satisfies Record<RuleName, () => FilterRule>
  return names.map((name) => make[expectOneOf('a rule', name, RULE_NAMES)]())
}
