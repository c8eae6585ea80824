import { fileURLToPath } from 'node:url'
import { escapeXml } from '../data/svg-text.ts'
import { readText } from '../read-text.ts'
import type { AgreementOutcome, StudyAnalysis } from './analyze-study.ts'
import { AVERAGE, type Outcomes, type RatingOutcome } from './outcomes.ts'
import { type Criterion, type Protocol, PROTOCOLS, PROMPT_ANGLES } from './protocols.ts'
import type { RaterReport } from './rater-report.ts'
import type { Estimate } from './statistics.ts'
import { estimateText, shareText } from './study-table.ts'

/** An analysis as a page that needs nothing beside itself, for people. */
export async function studyReport(analysis: StudyAnalysis): Promise<string> {
  const { study, title, protocol, items, units, raters, overall, angles, agreement } = analysis
  const style = await readText(fileURLToPath(new URL('./report.css', import.meta.url)))
  const facts = [
    `${items} items`,
    `${units} units`,
    `${raters.length} ${raters.length === 1 ? 'rater' : 'raters'}`,
    `study ${study}`,
  ]
  const byAngle = angles.map(({ angle, items: count, outcomes }) => {
    const label = PROMPT_ANGLES.find(({ id }) => id === angle)?.label.en ?? angle
    return `<details><summary>${escapeXml(label)} <span class="dim">${count} items</span></summary>${outcomeCharts(analysis, { ...outcomes, differences: [] })}</details>`
  })
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeXml(title)}</title>
<style>
${style}</style>
</head>
<body>
<header>
<h1>${escapeXml(title)}</h1>
<p class="dim">${facts.map(escapeXml).join(' · ')}</p>
<p class="dim">Protocol: ${escapeXml(PROTOCOLS[protocol].source)}</p>
</header>
<main>
${outcomeCharts(analysis, overall)}
${section('How far raters agree', "Krippendorff's alpha: 1 is full agreement, 0 what chance gives.", agreementTable(analysis, agreement))}
${section('Raters', 'Worth a look: missing answers, always the same one, times that are very short.', raterTable(raters))}
${byAngle.length === 0 ? '' : section('By angle', 'The same for the items of each angle.', byAngle.join('\n'))}
</main>
<footer class="dim">Bars are 95 % confidence intervals. Of means: Student's t over the items, the raters of an item averaged. Of shares: Wilson's
score over the votes, which takes them for independent; with several raters an item, the truth is somewhat wider.</footer>
</body>
</html>
`
}

function outcomeCharts(
  analysis: StudyAnalysis,
  { ratings, differences, verdicts, choices }: Outcomes,
): string {
  const { systems } = analysis
  const parts: string[] = []
  const percent = (value: number) => `${Math.round(100 * value)} %`
  const shares = { min: 0, max: 1, text: shareText, tick: percent }
  for (const id of new Set(ratings.map(({ criterion }) => criterion))) {
    const own = ratings.filter(({ criterion }) => criterion === id)
    const { min, max } = scaleOf(analysis, id)
    const rows = own.map((one) => ({
      label: one.system,
      color: systems.indexOf(one.system),
      estimate: one.mean,
      more: countBars(one),
    }))
    parts.push(chart(labelOf(analysis, id), rows, { min, max, text: estimateText, tick: String }))
  }
  for (const id of new Set(verdicts.map(({ criterion }) => criterion))) {
    const own = verdicts.filter(({ criterion }) => criterion === id)
    const rows = own.map((one) => ({
      label: one.system,
      color: systems.indexOf(one.system),
      estimate: one.passRate,
      more: `<span class="dim">${one.passed} of ${one.judged}</span>`,
    }))
    parts.push(chart(`${labelOf(analysis, id)} Taken for a human`, rows, shares))
  }
  for (const id of new Set(choices.map(({ criterion }) => criterion))) {
    const own = choices.filter(({ criterion }) => criterion === id)
    const rows = own.map((one) => ({
      label: `${one.system} over ${one.against ?? 'all others'}`,
      color: systems.indexOf(one.system),
      estimate: one.winRate,
      more: `<span class="dim">${one.wins} of ${one.votes}</span>`,
    }))
    parts.push(chart(labelOf(analysis, id), rows, { ...shares, middle: 0.5 }))
  }
  const shown = differences.filter(({ difference }) => difference !== null)
  if (shown.length > 0)
    parts.push(
      section(
        'Differences',
        'On the same items. An interval that leaves out 0 shows a difference.',
        differenceTable(analysis, shown),
      ),
    )
  return parts.join('\n')
}

interface Row {
  label: string
  /** Place of the system, which decides the colour. */
  color: number
  estimate: Estimate | null
  more: string
}

interface Axis {
  min: number
  max: number
  /** Where a line is drawn that means no difference. */
  middle?: number
  text: (estimate: Estimate | null) => string
  tick: (value: number) => string
}

const numColors = 6
const plotWidth = 400 // units of the drawing; it is scaled to its place

function chart(title: string, rows: readonly Row[], axis: Axis): string {
  const { min, max, middle, tick } = axis
  const at = (value: number) =>
    Math.round((10 * (plotWidth * (Math.min(max, Math.max(min, value)) - min))) / (max - min)) / 10
  const lines = rows.map(({ label, color, estimate, more }) => {
    const text = axis.text(estimate)
    const mark = estimate === null ? '' : intervalMark(estimate, at)
    const line =
      middle === undefined
        ? ''
        : `<line class="middle" x1="${at(middle)}" x2="${at(middle)}" y1="0" y2="24"/>`
    return `<div class="row c${color % numColors}"><span class="name">${escapeXml(label)}</span>
<svg viewBox="-8 0 ${plotWidth + 16} 24" role="img" aria-label="${escapeXml(`${label}: ${text}`)}"><line class="axis" x1="0" x2="${plotWidth}" y1="12" y2="12"/>${line}${mark}</svg>
<span class="value">${escapeXml(text)}</span><span class="more">${more}</span></div>`
  })
  return `<section><h2>${escapeXml(title)}</h2>
<div class="chart">${lines.join('\n')}
<div class="row ticks dim"><span class="name"></span><span class="ends"><span>${tick(min)}</span><span>${tick(max)}</span></span><span class="value"></span><span class="more"></span></div></div></section>`
}

function intervalMark({ value, interval }: Estimate, at: (value: number) => number): string {
  const bar =
    interval === null
      ? ''
      : `<rect class="interval" x="${at(interval.low)}" y="8" width="${Math.max(1, at(interval.high) - at(interval.low)).toFixed(1)}" height="8" rx="4"/>`
  return `${bar}<circle class="point" cx="${at(value)}" cy="12" r="6"/>`
}

/** How often each rating was given, as small bars. */
function countBars({ counts }: RatingOutcome): string {
  const most = Math.max(...counts)
  if (counts.length === 0 || most === 0) return ''
  const bars = counts.map((count, i) => {
    const height = Math.max(count === 0 ? 0 : 1, Math.round((20 * count) / most))
    return `<rect x="${i * 9}" y="${22 - height}" width="7" height="${height}"/>`
  })
  const text = `how often each rating was given, from the lowest on: ${counts.join(', ')}`
  return `<svg class="counts" viewBox="0 0 ${counts.length * 9} 22" style="width:${counts.length * 9}px" role="img" aria-label="${text}"><title>${text}</title>${bars.join('')}</svg>`
}

function differenceTable(analysis: StudyAnalysis, differences: Outcomes['differences']): string {
  const rows = differences.map(({ criterion, system, against, difference }) => {
    const { interval } = difference!
    const isClear = interval !== null && (interval.low > 0 || interval.high < 0)
    const text = escapeXml(estimateText(difference))
    return [labelOf(analysis, criterion), `${system} − ${against}`]
      .map(escapeXml)
      .concat(isClear ? `<strong>${text}</strong>` : text)
  })
  return table(['Criterion', 'Systems', 'Difference'], rows)
}

function agreementTable(analysis: StudyAnalysis, agreement: readonly AgreementOutcome[]): string {
  const number = (value: number | null | undefined) =>
    value === null || value === undefined ? '–' : value.toFixed(3)
  const rows = agreement.map(({ criterion, units, alpha }) => [
    escapeXml(labelOf(analysis, criterion)),
    number(alpha.nominal),
    number(alpha.ordinal),
    number(alpha.interval),
    String(units),
  ])
  return table(['Criterion', 'nominal', 'ordinal', 'interval', 'units of several raters'], rows)
}

function raterTable(raters: readonly RaterReport[]): string {
  const isPairs = raters.some(({ leftRate }) => leftRate !== null)
  const rows = raters.map(({ rater, answered, expected, constant, medianSeconds, leftRate }) => [
    escapeXml(rater),
    answered < expected ? `<strong>${answered} of ${expected}</strong>` : `${answered} of ${expected}`,
    medianSeconds === null ? '–' : `${medianSeconds.toFixed(1)} s`,
    constant.length === 0 ? 'no' : `<strong>${escapeXml(constant.join(', '))}</strong>`,
    ...(isPairs ? [escapeXml(shareText(leftRate))] : []),
  ])
  return table(
    ['Rater', 'answered', 'median time', 'always the same', ...(isPairs ? ['left chosen'] : [])],
    rows,
  )
}

/** Cells are HTML. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[], tag: string) =>
    `<tr>${cells.map((cell) => `<${tag}>${cell}</${tag}>`).join('')}</tr>`
  return `<div class="scroll"><table><thead>${line(head, 'th')}</thead><tbody>${rows.map((row) => line(row, 'td')).join('')}</tbody></table></div>`
}

function section(title: string, hint: string, content: string): string {
  return `<section><h2>${escapeXml(title)}</h2><p class="dim">${escapeXml(hint)}</p>${content}</section>`
}

function labelOf(analysis: StudyAnalysis, id: string): string {
  return id === AVERAGE ? 'Average' : criterionOf(analysis, id).label.en
}

function scaleOf(analysis: StudyAnalysis, id: string): { min: number; max: number } {
  const { criteria }: Protocol = PROTOCOLS[analysis.protocol]
  const scale = criteria.find((one) => one.kind === 'rating' && (id === AVERAGE || one.id === id))
  return scale as { min: number; max: number } & Criterion
}

function criterionOf({ protocol }: StudyAnalysis, id: string): Criterion {
  const { criteria }: Protocol = PROTOCOLS[protocol]
  return criteria.find((one) => one.id === id)!
}
