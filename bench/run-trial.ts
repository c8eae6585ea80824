// The process of one trial: tsx bench/run-trial.ts <name> <file of the result> [--quick]. Started by bench/index.ts.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { backendInfo } from '../lib/backend-info.ts'
import { measureCeilings } from '../lib/ceilings.ts'
import { currentCommit } from './git.ts'
import { describeMachine } from './machine.ts'
import { bestCeilings, judge, takeSamples } from './measure.ts'
import type { TrialResult } from './result.ts'
import type { Trial } from './trial.ts'

const [name, output] = process.argv.slice(2) as [string, string]
const quick = process.argv.includes('--quick')
const { device, isa, threads } = backendInfo()
const date = new Date().toISOString()
const git = currentCommit()
const { default: trial } = (await import(`./trials/${name}.ts`)) as { default: Trial }

const folder = await mkdtemp(join(tmpdir(), 'vilg-bench-'))
try {
  say('setting up')
  const { cases, dispose } = await trial.setup({ threads, folder })
  for (const one of cases) {
    say(`checking ${one.name}`)
    await one.check()
  }
  const milliseconds = quick ? 100 : 500
  const before = await measureCeilings({ milliseconds })
  const samples: Awaited<ReturnType<typeof takeSamples>>[] = []
  for (const one of cases) {
    say(`measuring ${one.name}`)
    samples.push(await takeSamples(one, quick))
  }
  const ceilings = bestCeilings(before, await measureCeilings({ milliseconds }))
  const result: TrialResult = {
    trial: name,
    description: trial.description,
    command: `npm run bench -- ${name}${quick ? ' --quick' : ''}`,
    date,
    git,
    machine: describeMachine(),
    backend: { device, isa, threads },
    ceilings,
    measurements: cases.map((one, i) => judge(one, samples[i]!, ceilings)),
  }
  await dispose?.()
  await writeFile(output, `${JSON.stringify(result, null, 2)}\n`)
} finally {
  await rm(folder, { recursive: true, force: true })
}

function say(what: string): void {
  process.stderr.write(`${name}: ${what}\n`)
}
