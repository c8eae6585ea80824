import type { Measured } from './records.ts'
import type { Settings } from './settings.ts'

/** What a trial says of one row. */
export interface Times extends Pick<Measured, 'clock' | 'details'> {
  times: readonly number[]
}

/** What trials report to. */
export interface Reporter {
  /** Reports what `work` gives for the row, or why it failed; then the other rows of the trial have their turn all the same. */
  attempt(row: string, work: () => Promise<Times>): Promise<void>
  /** Reports whether something is right; `work` throws where it is not. */
  check(name: string, work: () => Promise<void> | void): Promise<void>
}

/** Our side of some rows of the table. Results are checked before times are reported. */
export type GpuTrial = (settings: Settings, reporter: Reporter) => Promise<void>
