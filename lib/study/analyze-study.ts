import { outOfRange, typeMismatch } from '../validate.ts'
import { type AgreementLevel, AGREEMENT_LEVELS, krippendorffAlpha } from './agreement.ts'
import { type Judgement, type Outcomes, outcomesOf } from './outcomes.ts'
import type { StudyResults } from './page-study.ts'
import { type Criterion, PROMPT_ANGLES, type ProtocolName } from './protocols.ts'
import { type RaterReport, raterReport } from './rater-report.ts'
import {
  criteriaOf,
  readStudyKey,
  readStudyResults,
  refuseDoubleRaters,
  type StudyKey,
} from './study-files.ts'

/** How far raters agree on a criterion. */
export interface AgreementOutcome {
  criterion: string
  /** Units with answers of at least two raters. */
  units: number
  /** Krippendorff's alpha by level; verdicts and choices have the nominal one alone. Null where there is nothing to compare. */
  alpha: Partial<Record<AgreementLevel, number | null>>
}

/** What came out of a study. */
export interface StudyAnalysis {
  study: string
  title: string
  protocol: ProtocolName
  systems: string[]
  items: number
  units: number
  raters: RaterReport[]
  /** Over all items. */
  overall: Outcomes
  /** The same by the angle of the items, where they have one. */
  angles: { angle: string; items: number; outcomes: Outcomes }[]
  agreement: AgreementOutcome[]
}

/**
 * Sums up what raters said.
 *
 * Means are over items, of the mean of an item's raters, with Student's 95 % interval over the items. Pass and win rates are over all votes,
 * with Wilson's 95 % interval, which takes votes for independent: with several raters an item, the truth is somewhat wider. Missing answers
 * are left out.
 *
 * @param keyFile path of the key that {@link createStudy} wrote
 * @param resultFiles paths of the results files, one of each rater
 * @throws ERR_VILG_IO, ERR_VILG_INVALID_ARGUMENT with the file and what is wrong in it
 */
export async function analyzeStudy(keyFile: string, resultFiles: readonly string[]): Promise<StudyAnalysis> {
  if (!Array.isArray(resultFiles)) throw typeMismatch('resultFiles', 'an array of paths', resultFiles)
  if (resultFiles.length === 0)
    throw outOfRange('resultFiles', 'the results of at least one rater', resultFiles)
  const key = await readStudyKey(keyFile)
  const files: { path: string; results: StudyResults }[] = []
  for (const path of resultFiles) files.push({ path, results: await readStudyResults(path, key) })
  refuseDoubleRaters(files)
  return analysisOf(
    key,
    files.map(({ results }) => results),
  )
}

function analysisOf(key: StudyKey, results: readonly StudyResults[]): StudyAnalysis {
  const criteria = criteriaOf(key)
  const units = Object.values(key.units)
  const judgements = results.flatMap((one) => judgementsOf(one, key, criteria))
  const angles = [...new Set(units.flatMap(({ angle }) => angle ?? []))].sort(compareAngles)
  return {
    study: key.study,
    title: key.title,
    protocol: key.protocol,
    systems: key.systems,
    items: numItems(units),
    units: units.length,
    raters: results.map((one) => raterReport(one, criteria, units.length)),
    overall: outcomesOf(criteria, key.systems, judgements),
    angles: angles.map((angle) => ({
      angle,
      items: numItems(units.filter((unit) => unit.angle === angle)),
      outcomes: outcomesOf(
        criteria,
        key.systems,
        judgements.filter((one) => one.angle === angle),
      ),
    })),
    agreement: criteria.map((criterion) => agreementOn(criterion, key.systems, judgements)),
  }
}

/** Those of the paper in its order, then others by name: the order of units is random. */
function compareAngles(one: string, other: string): number {
  const place = (angle: string) => {
    const found = PROMPT_ANGLES.findIndex(({ id }) => id === angle)
    return found < 0 ? PROMPT_ANGLES.length : found
  }
  const difference = place(one) - place(other)
  return difference !== 0 ? difference : one < other ? -1 : 1
}

function numItems(units: readonly { item: string }[]): number {
  return new Set(units.map(({ item }) => item)).size
}

function judgementsOf(
  { rater, answers }: StudyResults,
  key: StudyKey,
  criteria: readonly Criterion[],
): Judgement[] {
  return Object.entries(answers).flatMap(([unit, { values }]) => {
    const { item, angle, systems } = key.units[unit]!
    return criteria
      .filter(({ id }) => Object.hasOwn(values, id))
      .map(({ id, kind }) => {
        const given = values[id]!
        const value = kind === 'choice' ? systems[given === 'a' ? 0 : 1]! : given
        return { rater, unit, item, angle, systems, criterion: id, value }
      })
  })
}

function agreementOn(
  criterion: Criterion,
  systems: readonly string[],
  judgements: readonly Judgement[],
): AgreementOutcome {
  const byUnit = new Map<string, number[]>()
  for (const { unit, value, criterion: id } of judgements) {
    if (id !== criterion.id) continue
    const values = byUnit.get(unit) ?? []
    // For the nominal level any number will do as a name.
    values.push(
      criterion.kind === 'rating'
        ? (value as number)
        : ['human', 'machine', ...systems].indexOf(value as string),
    )
    byUnit.set(unit, values)
  }
  const units = [...byUnit.values()]
  const levels = criterion.kind === 'rating' ? AGREEMENT_LEVELS : (['nominal'] as const)
  return {
    criterion: criterion.id,
    units: units.filter((values) => values.length >= 2).length,
    alpha: Object.fromEntries(levels.map((level) => [level, krippendorffAlpha(units, level)])),
  }
}
