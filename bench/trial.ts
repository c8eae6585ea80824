import type { Ceilings } from '../lib/ceilings.ts'

/** What the work of one run is in numbers; for the share of what the machine can do. */
export interface Work {
  /** Floating-point operations, a multiply-add counting as two, of the mathematics and not of what a kernel wastes. */
  flops?: number
  /** Bytes that have to be read from memory. */
  bytes?: number
}

/** What a case is to reach. */
export type Target =
  /** At least this share of the ceiling. */
  | { kind: 'share'; atLeast: number }
  /** At least so many times as fast as the peer. */
  | { kind: 'speedup'; atLeast: number }
  /** At most so many times as long as the peer. */
  | { kind: 'factor'; atMost: number }
  /** At most so long. */
  | { kind: 'milliseconds'; atMost: number }

/** What a case is compared with, in the same run. */
export interface Peer {
  /** With its version, where it has one. */
  name: string
  /** How many times our work it has to do, where that can be said: we could be so many times as fast, were all work equally quick. */
  workRatio?: number
  /** As {@link Case.run}. */
  run(repeats: number): Promise<readonly number[]>
}

/** One thing that is measured. */
export interface Case {
  /** Among the cases of its trial. */
  name: string
  /** As a row of the table names it. */
  title: string
  work: Work
  /** The ceiling that `work` is measured against. */
  limit?: keyof Ceilings
  peer?: Peer
  /** Why there is no peer, where the target needs one: what to do to have it. */
  peerMissing?: string
  target: Target
  /** Samples, 20 unless given; fewer where each takes seconds. */
  samples?: number
  /** Throws unless the result is right. Runs before anything is timed. */
  check(): Promise<void>
  /** Does it `repeats` times (or once, where it returns one time) and returns the milliseconds of each. */
  run(repeats: number): Promise<readonly number[]>
  /** Numbers that belong to the result beside the times, asked for at the end. */
  details?(): Record<string, number>
}

/** What a trial is told. */
export interface TrialContext {
  threads: number
  /** An empty folder that goes away afterwards. */
  folder: string
}

/** What a file of bench/trials exports as its default; its name is the file's. */
export interface Trial {
  description: string
  /** Makes inputs and models. */
  setup(context: TrialContext): Promise<{ cases: Case[]; dispose?: () => Promise<void> }>
}
