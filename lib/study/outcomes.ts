import type { Criterion, RatingCriterion } from './protocols.ts'
import { type Estimate, mean, meanEstimate, shareEstimate } from './statistics.ts'

/** One answer of one rater, with what is behind its unit. */
export interface Judgement {
  rater: string
  unit: string
  item: string
  angle: string | undefined
  /** The systems whose responses were shown: one, or two. */
  systems: readonly string[]
  /** The id of the criterion. */
  criterion: string
  /** A rating, a verdict, or the system that was chosen. */
  value: number | string
}

/** How a system was rated by a criterion. */
export interface RatingOutcome {
  /** The id of the criterion; `average` for the mean of all that are rated on one scale. */
  criterion: string
  system: string
  /** The mean over items of the mean of their raters. */
  mean: Estimate | null
  /** Items with a rating. */
  items: number
  /** How often each rating was given, from the lowest on; empty for the average. */
  counts: number[]
}

/** How much higher one system was rated than another on the items of both. */
export interface DifferenceOutcome {
  criterion: string
  system: string
  against: string
  difference: Estimate | null
}

/** How often people took a system for a human. */
export interface VerdictOutcome {
  criterion: string
  system: string
  passed: number
  judged: number
  passRate: Estimate | null
}

/** How often a system was chosen. */
export interface ChoiceOutcome {
  criterion: string
  system: string
  /** The other system of the pairs; null: all others. */
  against: string | null
  wins: number
  votes: number
  winRate: Estimate | null
}

/** What raters said of the systems; what the protocol does not ask for is empty. */
export interface Outcomes {
  ratings: RatingOutcome[]
  differences: DifferenceOutcome[]
  verdicts: VerdictOutcome[]
  choices: ChoiceOutcome[]
}

/** What {@link RatingOutcome} calls the mean of all criteria. */
export const AVERAGE = 'average'

/** Sums judgements up. */
export function outcomesOf(
  criteria: readonly Criterion[],
  systems: readonly string[],
  judgements: readonly Judgement[],
): Outcomes {
  const by = (criterion: Criterion) => judgements.filter((one) => one.criterion === criterion.id)
  const rated = criteria.filter((criterion) => criterion.kind === 'rating')
  const means = rated.map((criterion) => ({
    criterion: criterion.id,
    scale: criterion,
    bySystem: itemMeans(systems, by(criterion)),
  }))
  const isOneScale = rated.every(({ min, max }) => min === rated[0]!.min && max === rated[0]!.max)
  const average =
    rated.length > 1 && isOneScale
      ? [
          {
            criterion: AVERAGE,
            scale: undefined,
            bySystem: averageMeans(
              systems,
              means.map(({ bySystem }) => bySystem),
            ),
          },
        ]
      : []
  const pairs = systems.flatMap((system, i) => systems.slice(i + 1).map((against) => ({ system, against })))
  return {
    ratings: [...means, ...average].flatMap(({ criterion, scale, bySystem }) =>
      systems.map((system) => {
        const values = [...bySystem.get(system)!.values()]
        const own = judgements.filter((one) => one.criterion === criterion && one.systems[0] === system)
        const counts = scale === undefined ? [] : countRatings(scale, own)
        return { criterion, system, mean: meanEstimate(values), items: values.length, counts }
      }),
    ),
    differences: [...means, ...average].flatMap(({ criterion, bySystem }) =>
      pairs.map(({ system, against }) => {
        const difference = meanEstimate(differences(bySystem.get(system)!, bySystem.get(against)!))
        return { criterion, system, against, difference }
      }),
    ),
    verdicts: criteria
      .filter(({ kind }) => kind === 'verdict')
      .flatMap((criterion) => systems.map((system) => verdictOn(criterion.id, system, by(criterion)))),
    choices: criteria
      .filter(({ kind }) => kind === 'choice')
      .flatMap((criterion) => choicesBy(criterion.id, systems, pairs, by(criterion))),
  }
}

/** By system and item, the mean over raters: raters of one item are not independent, items are. */
type ItemMeans = Map<string, Map<string, number>>

function itemMeans(systems: readonly string[], judgements: readonly Judgement[]): ItemMeans {
  const values = new Map(systems.map((system) => [system, new Map<string, number[]>()]))
  for (const { systems: shown, item, value } of judgements) {
    const own = values.get(shown[0]!)!
    const ratings = own.get(item) ?? []
    ratings.push(value as number)
    own.set(item, ratings)
  }
  return new Map(
    [...values].map(([system, items]) => [
      system,
      new Map([...items].map(([item, all]) => [item, mean(all)])),
    ]),
  )
}

/** The mean of the criteria's means, for items that have all of them. */
function averageMeans(systems: readonly string[], all: readonly ItemMeans[]): ItemMeans {
  return new Map(
    systems.map((system) => {
      const [first, ...rest] = all.map((means) => means.get(system)!)
      const items = [...first!.keys()].filter((item) => rest.every((means) => means.has(item)))
      return [
        system,
        new Map(items.map((item) => [item, mean([first!, ...rest].map((means) => means.get(item)!))])),
      ]
    }),
  )
}

function differences(own: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): number[] {
  return [...own].flatMap(([item, value]) => (other.has(item) ? [value - other.get(item)!] : []))
}

function countRatings({ min, max }: RatingCriterion, judgements: readonly Judgement[]): number[] {
  const counts = Array.from({ length: max - min + 1 }, () => 0)
  for (const { value } of judgements) counts[(value as number) - min]! += 1
  return counts
}

function verdictOn(criterion: string, system: string, judgements: readonly Judgement[]): VerdictOutcome {
  const own = judgements.filter(({ systems }) => systems[0] === system)
  const passed = own.filter(({ value }) => value === 'human').length
  return { criterion, system, passed, judged: own.length, passRate: shareEstimate(passed, own.length) }
}

function choicesBy(
  criterion: string,
  systems: readonly string[],
  pairs: readonly { system: string; against: string }[],
  judgements: readonly Judgement[],
): ChoiceOutcome[] {
  const outcome = (system: string, against: string | null): ChoiceOutcome => {
    const votes = judgements.filter(
      ({ systems: shown }) => shown.includes(system) && (against === null || shown.includes(against)),
    )
    const wins = votes.filter(({ value }) => value === system).length
    return {
      criterion,
      system,
      against,
      wins,
      votes: votes.length,
      winRate: shareEstimate(wins, votes.length),
    }
  }
  const shown = pairs.map(({ system, against }) => outcome(system, against)).filter(({ votes }) => votes > 0)
  return systems.length === 2 ? shown : [...shown, ...systems.map((system) => outcome(system, null))]
}
