import { type Entry, isFailed, isMeasured, type Measured, US } from './records.ts'
import type { Claim, Row } from './rows.ts'

/** What became of one claim of a row. Numbers are null where a side of the comparison is missing. */
export interface Judged {
  row: string
  title: string
  claim: Claim
  ours: Measured | null
  /** The other side of a speedup: the best of those asked for. */
  peer: Measured | null
  /** How many times as fast as the peer; the share of the copy's bandwidth; how many times the other row's time. */
  value: number | null
  /** Null where nothing is to be reached, or where it cannot be said. */
  reached: boolean | null
  /** Why the value is null. */
  missing?: string
}

/** Every claim of the rows, in the light of what was measured. The last entry of a row and a name counts. */
export function judgeRows(rows: readonly Row[], entries: readonly Entry[]): Judged[] {
  const find = (row: string, by: string): Measured | null =>
    entries.filter(isMeasured).findLast((entry) => entry.row === row && entry.by === by) ?? null
  const failures = entries.filter(isFailed).toReversed()
  /** Why one of these has no time: what it says of the row, or else of more rows. */
  const failure = (row: string, ours: boolean, names: readonly string[]): string | undefined =>
    failures.find((entry) => entry.row === row && names.includes(entry.by))?.failed ??
    failures.find(
      ({ row: about, by }) => by.startsWith(US) === ours && (about === '*' || about === row.split('/')[0]),
    )?.failed
  const copy = find('copy', US)
  const copied = rows.find(({ id }) => id === 'copy')?.rate?.amount

  return rows.flatMap((row) => {
    const ours = find(row.id, US)
    return row.claims.map((claim): Judged => {
      const judged: Judged = {
        row: row.id,
        title: row.title,
        claim,
        ours,
        peer: null,
        value: null,
        reached: null,
      }
      const lacking = (missing: string): Judged => ({ ...judged, missing })
      if (!ours) return lacking(failure(row.id, true, [US]) ?? 'not measured')
      switch (claim.kind) {
        case 'speedup': {
          const there = claim.over.map((by) => find(row.id, by)).filter((peer) => peer !== null)
          const [peer] = there.toSorted((a, b) => a.median - b.median)
          if (!peer) {
            const reason = failure(row.id, claim.over[0]!.startsWith(US), claim.over)
            return lacking(`no ${claim.over[0]!}${reason === undefined ? '' : `: ${reason}`}`)
          }
          return withValue({ ...judged, peer }, peer.median / ours.median)
        }
        case 'bandwidth': {
          if (!copy || copied === undefined) return lacking('no time of a copy')
          return withValue(judged, claim.bytes / ours.median / (copied / copy.median))
        }
        case 'factor': {
          const other = find(claim.of, US)
          if (!other) return lacking(`no time of ${claim.what}`)
          return withValue(judged, ours.median / other.median)
        }
      }
    })
  })
}

function withValue(judged: Judged, value: number): Judged {
  const { claim } = judged
  const limit = claim.kind === 'factor' ? claim.atMost : claim.atLeast
  const reached = limit === undefined ? null : claim.kind === 'factor' ? value <= limit : value >= limit
  return { ...judged, value, reached }
}
