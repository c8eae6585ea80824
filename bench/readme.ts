import {
  digits,
  formatLimit,
  formatPeer,
  formatRate,
  formatReached,
  formatTarget,
  formatTime,
} from './format.ts'
import type { GpuResult } from './gpu/result.ts'
import { makeRows } from './gpu/rows.ts'
import { targetRows } from './gpu/table.ts'
import type { Measurement } from './measure.ts'
import type { TrialResult } from './result.ts'

const start = '<!-- bench:start -->'
const end = '<!-- bench:end -->'

/** The order of the table; trials that are not here come after these, by name. */
const order = [
  'matmul-float32',
  'matmul-bfloat16',
  'vqgan-decode',
  'draw-image',
  'train-step',
  'sparse-attention',
  'codebook-lookup',
]

function rank({ trial }: TrialResult): number {
  const at = order.indexOf(trial)
  return at < 0 ? order.length : at
}

/** One measurement against its limit or its peer, whichever its target is about. */
function compared(one: Measurement): string {
  const memory = one.details['workspaceBytes']
  const beside = memory === undefined ? '' : `, ${digits(memory / 2 ** 20)} MiB of workspace`
  return (one.target.kind === 'share' || !one.peer ? formatLimit(one) : formatPeer(one)) + beside
}

/** Results as a Markdown table with what they were measured on. */
export function readmeTable(results: readonly TrialResult[]): string {
  if (results.length === 0) {
    throw new Error('Expected results in bench/results, found none: run npm run bench first')
  }
  const sorted = results.toSorted((a, b) => rank(a) - rank(b) || a.trial.localeCompare(b.trial))
  const rows = sorted.flatMap(({ measurements }) =>
    measurements.map((one) => [
      one.title,
      formatTime(one.median),
      compared(one),
      formatTarget(one.target),
      formatReached(one.reached),
    ]),
  )
  return `${markdownTable([['work', 'median', 'against', 'to reach', 'reached'], ...rows])}\n\n${provenance(sorted)}`
}

/** The result of a GPU as a Markdown table of what is to be reached, with what it was measured on and what was not right there. */
export function gpuTable(result: GpuResult): string {
  const { device, driver, machine, git, peers, settings, judged, checks, date } = result
  const commit = git ? `commit ${git.commit.slice(0, 10)}${git.dirty ? ' with changes' : ''}` : 'no commit'
  const found = Object.entries(result.libraries).flatMap(([name, library]) =>
    'version' in library ? [`${name} ${library.version}`] : [],
  )
  const on = [
    device.name,
    ...(driver === null ? [] : [`driver ${driver}`]),
    ...found,
    ...(peers ? [`PyTorch ${peers.torch}`] : []),
    `Node ${machine.node}`,
    commit,
    date.slice(0, 10),
  ]
  const wrong = checks.filter(({ ok }) => !ok)
  const failed =
    wrong.length === 0 ? '' : ` **Not right there: ${wrong.map(({ check }) => check).join('; ')}.**`
  return `${markdownTable(targetRows(makeRows(settings), judged))}\n\nMeasured by \`npm run gpu\` on ${on.join(', ')}.${failed}`
}

/** Padded as prettier does, so that formatting the README does not change it. */
function markdownTable(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')))
  const widths = cells[0]!.map((_, column) => Math.max(3, ...cells.map((row) => row[column]!.length)))
  const [head, ...body] = cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)))
  const dashes = widths.map((width) => '-'.repeat(width))
  return [head!, dashes, ...body].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

/** A paragraph for each machine and commit that results come from. */
function provenance(results: readonly TrialResult[]): string {
  const groups = new Map<string, TrialResult[]>()
  for (const result of results) {
    const { machine, backend, git } = result
    const commit = git ? `commit ${git.commit.slice(0, 10)}${git.dirty ? ' with changes' : ''}` : 'no commit'
    const key = `${machine.cpu}, ${backend.threads} threads, ${backend.isa}, Node ${machine.node}, ${commit}`
    groups.set(key, [...(groups.get(key) ?? []), result])
  }
  const paragraphs = [...groups].map(([machine, members]) => {
    const best = (key: keyof TrialResult['ceilings']) =>
      Math.max(...members.map(({ ceilings }) => ceilings[key]))
    const days = members.map(({ date }) => date.slice(0, 10)).sort()
    const which = groups.size === 1 ? '' : ` (${members.map(({ trial }) => trial).join(', ')})`
    const when = days[0] === days.at(-1) ? days[0]! : `${days[0]} to ${days.at(-1)}`
    const pairs = best('bfloat16Flops')
    const peaks = [
      `${formatRate(best('float32Flops'), 'FLOP/s')} in float32`,
      ...(pairs > 0 ? [`${formatRate(pairs, 'FLOP/s')} in bfloat16`] : []),
      `${formatRate(best('readBytes'), 'B/s')} from memory`,
    ]
    return `Measured by \`npm run bench\` on ${machine}, ${when}${which}; the best loops there came to ${peaks.join(', ')}.`
  })
  return paragraphs.join('\n\n')
}

/**
 * The text with the table between its markers.
 *
 * @throws Error unless the text has each marker once, in order
 */
export function withTable(text: string, table: string): string {
  const [from, to] = [text.indexOf(start), text.indexOf(end)]
  const once = text.lastIndexOf(start) === from && text.lastIndexOf(end) === to
  if (from < 0 || to < from || !once) {
    throw new Error(`Expected ${start} and then ${end} once each in the file`)
  }
  return `${text.slice(0, from + start.length)}\n\n${table}\n\n${text.slice(to)}`
}
