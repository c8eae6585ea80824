import type { Ceilings } from '../../lib/ceilings.ts'
import type { TrialResult } from '../../bench/result.ts'
import { judge } from '../../bench/measure.ts'
import type { Case } from '../../bench/trial.ts'

export const ceilings: Ceilings = { float32Flops: 200e9, bfloat16Flops: 0, readBytes: 40e9 }

/** A case that does nothing, with what is given. */
export function makeCase(given: Partial<Case>): Case {
  return {
    name: 'case',
    title: 'the case',
    work: {},
    target: { kind: 'milliseconds', atMost: 10 },
    check: async () => {},
    run: async () => [1],
    ...given,
  }
}

/** A result of one trial, of made-up times. */
export function makeResult(
  trial: string,
  given: Partial<Case>,
  own: number[],
  peer: number[] = [],
): TrialResult {
  return {
    trial,
    description: 'A trial.',
    command: `npm run bench -- ${trial}`,
    date: '2024-05-06T07:08:09.000Z',
    git: { commit: '0123456789abcdef0123456789abcdef01234567', dirty: false },
    machine: { cpu: 'A | CPU', cores: 2, memoryBytes: 2 ** 33, platform: 'linux-x64', node: '20.19.0' },
    backend: { device: 'cpu', isa: 'x86-64-v4', threads: 2 },
    ceilings,
    measurements: [judge(makeCase(given), { own, peer }, ceilings)],
  }
}
