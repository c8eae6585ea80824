import type { StudyAnalysis } from './analyze-study.ts'
import type { Outcomes } from './outcomes.ts'
import { PROTOCOLS } from './protocols.ts'
import type { Estimate } from './statistics.ts'

/** An estimate as text: `3.87 [3.70, 4.04]`; a dash where there is none. */
export function estimateText(estimate: Estimate | null, digits = 2): string {
  return textOf(estimate, (value) => value.toFixed(digits))
}

/** A share as text: `78.5 % [72.3, 83.6]`. */
export function shareText(estimate: Estimate | null): string {
  return textOf(estimate, (value) => (100 * value).toFixed(1), ' %')
}

function textOf(estimate: Estimate | null, number: (value: number) => string, unit = ''): string {
  if (estimate === null) return '–'
  const { value, interval } = estimate
  const bounds = interval === null ? '' : ` [${number(interval.low)}, ${number(interval.high)}]`
  return `${number(value)}${unit}${bounds}`
}

/** An analysis as text, for people. */
export function studyTable(analysis: StudyAnalysis): string {
  const { study, title, protocol, items, units, raters, overall, angles, agreement } = analysis
  const counts = `${items} items, ${units} units, ${raters.length} ${raters.length === 1 ? 'rater' : 'raters'}`
  const sections = [
    [`${title} (${protocol}, study ${study}): ${counts}`, `Protocol: ${PROTOCOLS[protocol].source}`],
    ...outcomeTables(overall),
    agreementTable(agreement),
    raterTable(raters),
    ...angles.flatMap((one) => {
      const [first, ...rest] = outcomeTables({ ...one.outcomes, differences: [] })
      return [[`Angle ${one.angle}: ${one.items} items`, ...(first ?? [])], ...rest]
    }),
  ]
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')
}

function outcomeTables({ ratings, differences, verdicts, choices }: Outcomes): string[][] {
  const tables: string[][] = []
  if (ratings.length > 0) {
    const cells = ratings.map(({ criterion, system, mean }) => ({
      row: criterion,
      column: system,
      text: estimateText(mean),
    }))
    tables.push(['Mean rating [95 %: t over items]', ...crossTable(cells)])
  }
  if (differences.length > 0) {
    const cells = differences.map(({ criterion, system, against, difference }) => ({
      row: criterion,
      column: `${system} - ${against}`,
      text: estimateText(difference),
    }))
    tables.push(['Difference on the same items [95 %: t over items]', ...crossTable(cells)])
  }
  if (verdicts.length > 0) {
    const cells = verdicts.map(({ criterion, system, passRate }) => ({
      row: criterion,
      column: system,
      text: shareText(passRate),
    }))
    tables.push(['Taken for a human [95 %: Wilson over votes]', ...crossTable(cells)])
  }
  if (choices.length > 0) {
    const cells = choices.map(({ criterion, system, against, winRate }) => ({
      row: against === null ? `${system} over all others` : `${system} over ${against}`,
      column: criterion,
      text: shareText(winRate),
    }))
    tables.push(['Chosen [95 %: Wilson over votes]', ...crossTable(cells)])
  }
  return tables
}

function agreementTable(agreement: StudyAnalysis['agreement']): string[] {
  const cells = agreement.flatMap(({ criterion, alpha, units }) => [
    ...Object.entries(alpha).map(([level, value]) => ({
      row: criterion,
      column: level,
      text: value === null ? '–' : value.toFixed(3),
    })),
    { row: criterion, column: 'units of several raters', text: String(units) },
  ])
  return ["Agreement (Krippendorff's alpha)", ...crossTable(cells)]
}

function raterTable(raters: StudyAnalysis['raters']): string[] {
  const cells = raters.flatMap(({ rater, answered, expected, constant, medianSeconds, leftRate }) => {
    const facts: Record<string, string> = {
      answered: `${answered} of ${expected}`,
      'median time': medianSeconds === null ? '–' : `${medianSeconds.toFixed(1)} s`,
      'always the same': constant.length === 0 ? 'no' : constant.join(', '),
      ...(leftRate === null ? {} : { 'left chosen': shareText(leftRate) }),
    }
    return Object.entries(facts).map(([column, text]) => ({ row: rater, column, text }))
  })
  return ['Raters', ...crossTable(cells)]
}

/** Lines of a table with aligned columns; rows and columns in the order in which they come, cells that are not there empty. */
function crossTable(cells: readonly { row: string; column: string; text: string }[]): string[] {
  const rows = [...new Set(cells.map(({ row }) => row))]
  const columns = [...new Set(cells.map(({ column }) => column))]
  const lines = [
    ['', ...columns],
    ...rows.map((row) => [
      row,
      ...columns.map(
        (column) => cells.find((cell) => cell.row === row && cell.column === column)?.text ?? '',
      ),
    ]),
  ]
  const widths = ['', ...columns].map((_, i) => Math.max(...lines.map((line) => displayWidth(line[i]!))))
  return lines.map((line) =>
    `  ${line.map((text, i) => text + ' '.repeat(widths[i]! - displayWidth(text))).join('  ')}`.trimEnd(),
  )
}

/** Columns of a terminal: Chinese, Japanese and Korean characters take two. */
function displayWidth(text: string): number {
  return [...text].reduce(
    (sum, one) =>
      sum +
      (/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/.test(one) ? 2 : 1),
    0,
  )
}
