import { quantile } from '../statistics.ts'

/** How one side did one thing. Times are milliseconds. */
export interface Measured {
  /** Of the table (rows.ts). */
  row: string
  /** Who did it. */
  by: string
  median: number
  p25: number
  p75: number
  /** How many times the quartiles are of. */
  samples: number
  /** `device`: between two events on it, of runs in a row; `wall`: from a call to its results. */
  clock: 'device' | 'wall'
  /** What else belongs to it. */
  details?: Record<string, number | string>
}

/** What one side could not do. */
export interface Failed {
  /** Of the table, or the group of rows that it is about (the part before the first slash), or `*`: all. */
  row: string
  by: string
  failed: string
}

/** Whether something is right. */
export interface Check {
  check: string
  ok: boolean
  detail: string
}

/** A line that a process of the measurements prints. */
export type Entry = Measured | Failed | Check

/** Who we are in `by`. */
export const US = 'ernie-vilg'

export const isMeasured = (entry: Entry): entry is Measured => 'median' in entry
export const isFailed = (entry: Entry): entry is Failed => 'failed' in entry
export const isCheck = (entry: Entry): entry is Check => 'check' in entry

/** What the times of one thing come to. */
export function measured(
  row: string,
  by: string,
  times: readonly number[],
  clock: Measured['clock'],
  details?: Measured['details'],
): Measured {
  const [p25, median, p75] = [0.25, 0.5, 0.75].map((q) => quantile(times, q)) as [number, number, number]
  return { row, by, median, p25, p75, samples: times.length, clock, ...(details ? { details } : {}) }
}

/** The entry that a line of output is; undefined where it is something else. */
export function parseEntry(line: string): Entry | undefined {
  const value = parseObject(line)
  if (!value) return undefined
  const has = (types: Record<string, string>) =>
    Object.entries(types).every(([key, type]) => typeof value[key] === type)
  const known =
    has({ check: 'string', ok: 'boolean', detail: 'string' }) ||
    has({ row: 'string', by: 'string', failed: 'string' }) ||
    has({
      row: 'string',
      by: 'string',
      median: 'number',
      p25: 'number',
      p75: 'number',
      samples: 'number',
      clock: 'string',
    })
  return known ? (value as unknown as Entry) : undefined
}

/** The object that a line of JSON is. */
export function parseObject(line: string): Record<string, unknown> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined // a message of a library that begins alike
  }
}
