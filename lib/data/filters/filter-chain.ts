import { expectString, outOfRange, typeMismatch } from '../../validate.ts'
import type { CaptionRule, FilterPair, FilterRule, FilterSample, PairRule, RuleCounts } from './rule.ts'

/** Rules one after the other, and how much each of them dropped. Those about captions come first: they need no picture. */
export class FilterChain {
  readonly #captionRules: readonly CaptionRule[]
  readonly #pairRules: readonly PairRule[]
  readonly #counts: Map<string, RuleCounts>

  /** @throws ERR_VILG_INVALID_ARGUMENT where two rules have one name */
  constructor(rules: readonly FilterRule[]) {
    if (!Array.isArray(rules)) throw typeMismatch('rules', 'an array of rules', rules)
    this.#captionRules = rules.filter((rule): rule is CaptionRule => rule.needs === 'captions')
    this.#pairRules = rules.filter((rule): rule is PairRule => rule.needs === 'picture')
    const names = [...this.#captionRules, ...this.#pairRules].map(({ name }) =>
      expectString('a rule name', name),
    )
    const twice = names.find((name, i) => names.indexOf(name) !== i)
    if (twice !== undefined) throw outOfRange('rules', 'rules of different names', twice)
    this.#counts = new Map(names.map((name) => [name, { samples: 0, captions: 0 }]))
  }

  /** What decides every rule, by its name. */
  get settings(): Record<string, Readonly<Record<string, unknown>>> {
    return Object.fromEntries(
      [...this.#captionRules, ...this.#pairRules].map(({ name, settings }) => [name, settings]),
    )
  }

  /**
   * The captions that the rules about captions leave; none: the sample is dropped. May be asked ahead of a sample's turn: only `count` of
   * what it gives counts what was dropped.
   */
  filterCaptions({ captions }: FilterSample): { captions: readonly string[]; count: () => void } {
    const steps: [name: string, before: readonly string[], after: readonly string[]][] = []
    let left = captions
    for (const rule of this.#captionRules) {
      const before = left
      left = before.filter((caption) => rule.allows(caption))
      steps.push([rule.name, before, left])
      if (left.length === 0) break
    }
    return { captions: left, count: () => steps.forEach((step) => this.#count(...step)) }
  }

  /** The captions that the rules about pictures leave; none: the sample is dropped. Calls must not overlap. */
  async filterPair(pair: FilterPair): Promise<readonly string[]> {
    let { captions } = pair
    for (const rule of this.#pairRules) {
      captions = this.#count(rule.name, captions, await rule.filter({ ...pair, captions }))
      if (captions.length === 0) break
    }
    return captions
  }

  /** To be called with every pair that stays, right after {@link filterPair}. @returns what {@link recall} takes */
  remember(pair: FilterPair): Record<string, string> {
    const marks: Record<string, string> = {}
    for (const rule of this.#pairRules) {
      if (rule.remember !== undefined) marks[rule.name] = rule.remember(pair)
    }
    return marks
  }

  /** Takes what an earlier run remembered. */
  recall(marks: Readonly<Record<string, string>>): void {
    for (const rule of this.#pairRules) {
      const mark = marks[rule.name]
      if (mark !== undefined) rule.recall?.(mark)
    }
  }

  /** What each rule dropped since the last call, in the order of the rules. */
  takeCounts(): Record<string, RuleCounts> {
    const counts = Object.fromEntries(this.#counts)
    for (const name of this.#counts.keys()) this.#counts.set(name, { samples: 0, captions: 0 })
    return counts
  }

  #count(name: string, before: readonly string[], after: readonly string[]): readonly string[] {
    const counts = this.#counts.get(name)!
    counts.captions += before.length - after.length
    if (after.length === 0) counts.samples++
    return after
  }
}
