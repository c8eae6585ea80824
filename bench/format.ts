import type { Measurement } from './measure.ts'
import type { Target } from './trial.ts'

/** Three significant digits, without an exponent. */
export function digits(value: number): string {
  const magnitude = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)))
  return value.toFixed(Math.max(0, 2 - magnitude))
}

/** A time: microseconds, milliseconds or seconds. */
export function formatTime(milliseconds: number): string {
  if (milliseconds < 1) return `${digits(milliseconds * 1000)} us`
  return milliseconds < 1000 ? `${digits(milliseconds)} ms` : `${digits(milliseconds / 1000)} s`
}

/** What of the machine's: operations or bytes a second. */
export function formatRate(perSecond: number, unit: 'FLOP/s' | 'B/s'): string {
  return perSecond >= 1e12 ? `${digits(perSecond / 1e12)} T${unit}` : `${digits(perSecond / 1e9)} G${unit}`
}

/** A share in percent. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`
}

/** What is to be reached. */
export function formatTarget(target: Target): string {
  switch (target.kind) {
    case 'share':
      return `>= ${percent(target.atLeast)} of the limit`
    case 'speedup':
      return target.atLeast === 1 ? 'no slower' : `>= ${target.atLeast} x as fast`
    case 'factor':
      return `<= ${target.atMost} x its time`
    case 'milliseconds':
      return `<= ${formatTime(target.atMost)}`
  }
}

/** The share of the ceiling, with the ceiling. */
export function formatLimit({ limit }: Measurement): string {
  if (!limit) return ''
  return `${percent(limit.share)} of ${formatRate(limit.perSecond, limit.of === 'readBytes' ? 'B/s' : 'FLOP/s')}`
}

/** How it compares with the peer. */
export function formatPeer({ peer, peerMissing, target }: Measurement): string {
  if (!peer) return peerMissing === undefined ? '' : 'not there'
  const compared =
    target.kind === 'factor'
      ? `${digits(1 / peer.speedup)} x the time of`
      : `${digits(peer.speedup)} x as fast as`
  const { possible } = peer
  const share =
    possible === undefined
      ? ''
      : `, ${percent(peer.speedup / possible)} of the possible ${digits(possible)} x`
  return `${compared} ${peer.name} (${formatTime(peer.median)})${share}`
}

/** Whether the target was reached. */
export function formatReached(reached: boolean | null): string {
  return reached === null ? '?' : reached ? 'yes' : 'no'
}

/** Rows in columns as wide as their widest cell, two spaces apart; the first row is the head. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
  lines.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '))
  return lines.join('\n')
}

/** The measurements of some trials as a table for terminals. */
export function measurementTable(results: readonly { measurements: readonly Measurement[] }[]): string {
  const rows = results.flatMap(({ measurements }) =>
    measurements.map((one) => [
      one.title,
      formatTime(one.median),
      `${formatTime(one.p10)} .. ${formatTime(one.p90)}`,
      formatLimit(one),
      formatPeer(one),
      formatTarget(one.target),
      formatReached(one.reached),
    ]),
  )
  return textTable([['work', 'median', 'p10 .. p90', 'limit', 'peer', 'target', 'reached'], ...rows])
}
