import type { StudyResults } from './page-study.ts'
import type { Criterion } from './protocols.ts'
import { type Estimate, median, shareEstimate } from './statistics.ts'

/** What tells whether a rater's answers can be used. */
export interface RaterReport {
  rater: string
  /** Questions that were answered, and all there were. */
  answered: number
  expected: number
  /** Ids of the criteria to which all answers are the same, of at least {@link LEAST_FOR_CONSTANT}. */
  constant: string[]
  /** The middle of the times that units were on the screen; null where nothing was answered. */
  medianSeconds: number | null
  /** Of pairs: how often the left one was chosen, by which a habit shows; null elsewhere. */
  leftRate: Estimate | null
}

/** As few equal answers as this say nothing of a rater. */
export const LEAST_FOR_CONSTANT = 5

/** Reports on one rater of a study of so many units. */
export function raterReport(
  results: StudyResults,
  criteria: readonly Criterion[],
  numUnits: number,
): RaterReport {
  const units = Object.values(results.answers)
  const answersTo = (id: string) =>
    units.flatMap(({ values }) => (Object.hasOwn(values, id) ? [values[id]!] : []))
  const constant = criteria.filter(({ id }) => {
    const answers = answersTo(id)
    return answers.length >= LEAST_FOR_CONSTANT && answers.every((answer) => answer === answers[0])
  })
  const choices = criteria
    .filter(({ kind }) => kind === 'choice')
    .flatMap(({ id }) =>
      units.flatMap(({ values, first }) => (Object.hasOwn(values, id) ? [values[id] === first] : [])),
    )
  return {
    rater: results.rater,
    answered: criteria.reduce((sum, { id }) => sum + answersTo(id).length, 0),
    expected: criteria.length * numUnits,
    // Which of two pictures is called a is random, so a rater of pairs is constant by sides, not by names.
    constant: constant.filter(({ kind }) => kind !== 'choice').map(({ id }) => id),
    medianSeconds: median(units.map(({ seconds }) => seconds)),
    leftRate: shareEstimate(choices.filter((isLeft) => isLeft).length, choices.length),
  }
}
