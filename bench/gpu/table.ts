import { digits, formatRate, formatReached, formatTarget, formatTime, percent } from '../format.ts'
import type { Judged } from './judge.ts'
import type { Check } from './records.ts'
import type { Row } from './rows.ts'

const head = ['work', 'median', 'against', 'to reach', 'reached'] as const

/** The table's cells, its head first. The second claim of a row leaves out what the first has said. */
export function tableRows(rows: readonly Row[], judged: readonly Judged[]): string[][] {
  const cells = judged.flatMap((one, i) => {
    const again = judged[i - 1]?.row === one.row
    const target = targetOf(one)
    if (again && target === null && one.value === null) return []
    const line = [
      again ? '' : one.title,
      again ? '' : ownTime(one, rows),
      again && !one.ours ? '' : compared(one),
      target === null ? '' : formatTarget(target),
      target === null ? '' : formatReached(one.reached),
    ]
    return [line]
  })
  return [[...head], ...cells]
}

/** Those claims that something is to be reached by, each with its row's title, for the README. */
export function targetRows(rows: readonly Row[], judged: readonly Judged[]): string[][] {
  const cells = judged.flatMap((one) => {
    const target = targetOf(one)
    if (target === null) return []
    return [[one.title, ownTime(one, rows), compared(one), formatTarget(target), formatReached(one.reached)]]
  })
  return [[...head], ...cells]
}

/** A line a check. */
export function checkLines(checks: readonly Check[]): string[] {
  return checks.map(({ check, ok, detail }) => `${ok ? 'ok  ' : 'FAIL'} ${check}: ${detail}`)
}

function ownTime({ ours, row }: Judged, rows: readonly Row[]): string {
  if (!ours) return '-'
  const rate = rows.find(({ id }) => id === row)?.rate
  return rate
    ? `${formatTime(ours.median)}, ${formatRate(rate.amount / (ours.median / 1000), rate.unit)}`
    : formatTime(ours.median)
}

const longest = 80

function compared({ claim, value, peer, missing = '' }: Judged): string {
  if (value === null) {
    const [line] = missing.split('\n') as [string]
    return line.length > longest ? `${line.slice(0, longest)}...` : line
  }
  switch (claim.kind) {
    case 'speedup':
      return `${digits(value)} x as fast as ${peer!.by} (${formatTime(peer!.median)})`
    case 'bandwidth':
      return `${percent(value)} of what a copy moves, reading ${digits(claim.bytes / 1e9)} GB`
    case 'factor':
      return `${digits(value)} x the time of ${claim.what}`
  }
}

function targetOf({ claim }: Judged) {
  if (claim.kind === 'factor') {
    return claim.atMost === undefined ? null : ({ kind: 'factor', atMost: claim.atMost } as const)
  }
  if (claim.atLeast === undefined) return null
  return { kind: claim.kind === 'speedup' ? 'speedup' : 'share', atLeast: claim.atLeast } as const
}
