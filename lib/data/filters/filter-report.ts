import type { RuleCounts } from './rule.ts'

/** What became of the samples of a source, as JSON. */
export interface FilterReport {
  /** Samples that were read, broken ones among them. */
  read: number
  kept: number
  broken: number
  /** What each rule dropped, in the order of the rules. */
  dropped: Record<string, RuleCounts>
}

/** Adds the counts of a part of the work to those of the parts before. */
export function addCounts(
  sums: Record<string, RuleCounts>,
  more: Readonly<Record<string, RuleCounts>>,
): void {
  for (const [name, { samples, captions }] of Object.entries(more)) {
    const sum = (sums[name] ??= { samples: 0, captions: 0 })
    sum.samples += samples
    sum.captions += captions
  }
}

/** A table of a report: a line for what was read, each rule, and what stayed. */
export function filterTable({ read, kept, broken, dropped }: FilterReport): string {
  const share = (count: number) => (read === 0 ? '' : `${((100 * count) / read).toFixed(1)} %`)
  const rows = [
    ['', 'samples', 'share', 'captions'],
    ['read', String(read), share(read), ''],
    ['broken', String(broken), share(broken), ''],
    ...Object.entries(dropped).map(([name, { samples, captions }]) => [
      `dropped by ${name}`,
      String(samples),
      share(samples),
      String(captions),
    ]),
    ['kept', String(kept), share(kept), ''],
  ]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
