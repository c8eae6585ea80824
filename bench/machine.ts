import { availableParallelism, cpus, totalmem } from 'node:os'

import type { TrialResult } from './result.ts'

/** What this process runs on. */
export function describeMachine(): TrialResult['machine'] {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    platform: `${process.platform}-${process.arch}`,
    node: process.versions.node,
  }
}
