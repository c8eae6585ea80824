import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { BackendInfo } from '../lib/backend-info.ts'
import type { Ceilings } from '../lib/ceilings.ts'
import type { Measurement } from './measure.ts'

/** What bench/results/<trial>.json holds. */
export interface TrialResult {
  trial: string
  description: string
  /** What repeats it. */
  command: string
  /** Of the start, ISO 8601 in UTC. */
  date: string
  /** The commit, and whether files differed from it. */
  git: { commit: string; dirty: boolean } | null
  machine: { cpu: string; cores: number; memoryBytes: number; platform: string; node: string }
  /** What the library computed on. */
  backend: Pick<BackendInfo, 'device' | 'isa' | 'threads'>
  /** Measured before and after the cases, the better of both. */
  ceilings: Ceilings
  measurements: Measurement[]
}

/** All results of a folder, by name of trial. */
export function readResults(folder: string): TrialResult[] {
  const names = readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
  return names.map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as TrialResult)
}
