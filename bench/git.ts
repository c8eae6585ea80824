import { execFileSync } from 'node:child_process'

import type { TrialResult } from './result.ts'

/** The commit, and whether files differ from it; results themselves do not count as changes: one run writes several. */
export function currentCommit(): TrialResult['git'] {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8', stdio: 'pipe' }).trim()
  try {
    const changes = git(
      'status',
      '--porcelain',
      '--',
      ':/',
      ':(top,exclude)bench/results',
      ':(top,exclude)README.md',
    )
    return { commit: git('rev-parse', 'HEAD'), dirty: changes !== '' }
  } catch {
    return null // not a clone
  }
}
