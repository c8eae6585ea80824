import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import type { CudaDevice, CudaInfo } from '../../lib/backend-info.ts'
import type { TrialResult } from '../result.ts'
import type { Judged } from './judge.ts'
import type { Check, Entry } from './records.ts'
import type { Settings } from './settings.ts'

/** What bench/results/gpu/<device>.json holds. */
export interface GpuResult {
  /** What repeats it. */
  command: string
  /** Of the start, ISO 8601 in UTC. */
  date: string
  git: TrialResult['git']
  device: CudaDevice
  libraries: CudaInfo['libraries']
  /** As nvidia-smi names it; null where there is no nvidia-smi. */
  driver: string | null
  machine: TrialResult['machine']
  /** What the peers ran on; null where there was no PyTorch. */
  peers: { python: string; torch: string; cuda: string } | null
  /** How long all of it took. */
  seconds: number
  settings: Settings
  checks: Check[]
  judged: Judged[]
  /** What the sides reported, in the order of their reports. */
  entries: Entry[]
}

/** The name of a device's file: lower case, dashes. */
export function resultFile(deviceName: string): string {
  const name = deviceName.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  return `${name.replaceAll(/^-|-$/g, '') || 'gpu'}.json`
}

/** All results of a folder, by name of file; none where it is not there. */
export function readGpuResults(folder: string): GpuResult[] {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
  return names.map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as GpuResult)
}
