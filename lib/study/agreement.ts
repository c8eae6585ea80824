import { expectOneOf, outOfRange } from '../validate.ts'

/** How far two values differ: at all, by ranks, or by the square of their difference. */
export const AGREEMENT_LEVELS = Object.freeze(['nominal', 'ordinal', 'interval'] as const)

/** One of {@link AGREEMENT_LEVELS}. */
export type AgreementLevel = (typeof AGREEMENT_LEVELS)[number]

/**
 * Krippendorff's alpha: 1 is full agreement, 0 what chance gives, below 0 systematic disagreement. From the coincidences of values within
 * units (Krippendorff, "Computing Krippendorff's alpha-reliability", 2011).
 *
 * @param units the values that raters gave to each unit, finite numbers; raters who gave none are left out, and units with fewer than two
 *   values say nothing. For the level `nominal`, numbers are names.
 * @returns null where nothing can be said: no unit has two values, or all values are the same, so that there is nothing to disagree about
 */
export function krippendorffAlpha(
  units: readonly (readonly number[])[],
  level: AgreementLevel,
): number | null {
  expectOneOf('level', level, AGREEMENT_LEVELS)
  const paired = units.filter((values) => values.length >= 2)
  for (const value of paired.flat())
    if (!Number.isFinite(value)) throw outOfRange('a value', 'a finite number', value)
  const values = [...new Set(paired.flat())].sort((a, b) => a - b)
  if (values.length < 2) return null
  const places = new Map(values.map((value, place) => [value, place]))

  // coincidences[c][k]: pairs of the values c and k within units, each unit counting as often as it has values
  const coincidences = values.map(() => new Float64Array(values.length))
  for (const unit of paired) {
    const counts = new Float64Array(values.length)
    for (const value of unit) counts[places.get(value)!]! += 1
    for (const [c, row] of coincidences.entries()) {
      for (let k = 0; k < values.length; k++) {
        row[k]! += (counts[c]! * (counts[k]! - (c === k ? 1 : 0))) / (unit.length - 1)
      }
    }
  }
  const totals = coincidences.map((row) => row.reduce((sum, count) => sum + count, 0))
  const total = totals.reduce((sum, count) => sum + count, 0)
  let observed = 0
  let expected = 0
  for (let c = 0; c < values.length; c++) {
    for (let k = c + 1; k < values.length; k++) {
      const distance = squaredDistance(level, values, totals, c, k)
      observed += coincidences[c]![k]! * distance
      expected += totals[c]! * totals[k]! * distance
    }
  }
  return 1 - ((total - 1) * observed) / expected
}

/** Between the values at the places c < k. */
function squaredDistance(
  level: AgreementLevel,
  values: readonly number[],
  totals: readonly number[],
  c: number,
  k: number,
): number {
  if (level === 'nominal') return 1
  if (level === 'interval') return (values[k]! - values[c]!) ** 2
  // The number of values between two ranks, the two themselves by half.
  let between = -(totals[c]! + totals[k]!) / 2
  for (let g = c; g <= k; g++) between += totals[g]!
  return between ** 2
}
