// npm run bench [-- filter terms...]: see --help.
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Command } from 'commander'

import { formatRate, measurementTable } from './format.ts'
import type { TrialResult } from './result.ts'
import { filterTrials, findTrials } from './select.ts'
import type { Trial } from './trial.ts'

const here = fileURLToPath(new URL('.', import.meta.url))
const resultsFolder = join(here, 'results')

interface Options {
  list: boolean
  quick: boolean
  json: boolean
}

const program = new Command('npm run bench --')
  .description(
    'Measures the kernels and models of ernie-vilg against what this machine can do and against peers, each trial in a process of its own. Results go to bench/results/<trial>.json.',
  )
  .argument('[terms...]', 'trials whose name contains one of these; all unless given')
  .option('--list', 'say what trials there are and measure nothing', false)
  .option('--quick', 'few samples, nothing written: for a first look', false)
  .option('--json', 'print the results as JSON instead of a table', false)
  .addHelpText(
    'after',
    '\nThreads and instruction set: the environment variables VILG_THREADS and VILG_ISA.\nPeers are installed by: npm ci --prefix bench/peers\nThe exit code is 0 where every trial ran and its results were right, whatever the times.',
  )
  .action(main)
await program.parseAsync()

async function main(terms: string[], { list, quick, json }: Options): Promise<void> {
  let names: string[]
  try {
    names = filterTrials(findTrials(join(here, 'trials')), terms)
  } catch (error) {
    return program.error((error as Error).message)
  }
  if (list) return printList(names)
  const results: TrialResult[] = []
  const failed: string[] = []
  for (const name of names) {
    try {
      results.push(await runTrial(name, quick))
    } catch (error) {
      failed.push(`${name}: ${(error as Error).message}`)
    }
  }
  if (json) console.log(JSON.stringify(results, null, 2))
  else if (results.length > 0) printTable(results)
  for (const message of failed) console.error(message)
  if (failed.length > 0) process.exitCode = 1
}

async function printList(names: readonly string[]): Promise<void> {
  for (const name of names) {
    const { default: trial } = (await import(`./trials/${name}.ts`)) as { default: Trial }
    console.log(`${name}\n  ${trial.description}`)
  }
}

function printTable(results: readonly TrialResult[]): void {
  const { backend, machine } = results[0]!
  const best = (key: keyof TrialResult['ceilings']) =>
    Math.max(...results.map(({ ceilings }) => ceilings[key]))
  const pairs = best('bfloat16Flops')
  console.log(
    [
      `${machine.cpu}, ${backend.isa}, ${backend.threads} threads, Node ${machine.node}`,
      `ceilings: float32 ${formatRate(best('float32Flops'), 'FLOP/s')}, bfloat16 ${pairs > 0 ? formatRate(pairs, 'FLOP/s') : 'none'}, memory ${formatRate(best('readBytes'), 'B/s')}`,
      '',
      measurementTable(results),
    ].join('\n'),
  )
  const notes = results.flatMap(({ measurements }) =>
    measurements.flatMap(({ peerMissing }) => peerMissing ?? []),
  )
  for (const note of new Set(notes)) console.log(`\n${note}`)
}

/** Runs one trial in its own process and returns what it wrote. */
async function runTrial(name: string, quick: boolean): Promise<TrialResult> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-bench-'))
  try {
    const file = join(folder, `${name}.json`)
    const loader = import.meta.resolve('tsx')
    const script = join(here, 'run-trial.ts')
    const args = ['--import', loader, script, name, file, ...(quick ? ['--quick'] : [])]
    // what a trial prints must not mix with --json
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 2, 2],
      // these trials are about the CPU; bench/gpu is about GPUs
      env: { ...process.env, VILG_CUDA_PLUGIN: 'off' },
    })
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (...end) => resolve(end))
    })
    if (code !== 0) throw new Error(`the trial failed (${signal ?? `exit code ${code}`}); its error is above`)
    const text = await readFile(file, 'utf8')
    if (!quick) await keep(name, text)
    return JSON.parse(text) as TrialResult
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Into bench/results, whole or not at all. */
async function keep(name: string, text: string): Promise<void> {
  await mkdir(resultsFolder, { recursive: true })
  const target = join(resultsFolder, `${name}.json`)
  await writeFile(`${target}.tmp`, text)
  await rename(`${target}.tmp`, target)
}
