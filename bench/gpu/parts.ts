import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { BackendInfo } from '../../lib/backend-info.ts'
import { listTests, runTests } from './native-tests.ts'
import { type About, askAbout, Peers } from './peers.ts'
import { start, whatWentWrong } from './processes.ts'
import { parseEntry, US } from './records.ts'
import { WITHOUT_LIBRARY } from './rows.ts'
import { findSanitizer, sanitize, TOOLS } from './sanitizer.ts'
import type { Session } from './session.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const inRoot = (...path: string[]) => join(root, ...path)

/** What the parts share. */
export interface Run {
  session: Session
  python: string
  tiny: boolean
  /** The environment of our own processes. */
  env: NodeJS.ProcessEnv
  peers: Peers | undefined
  /** Groups of rows whose peers will be measured, which may get ready meanwhile. */
  comparedGroups: readonly string[]
  /** How long each native test took; the sanitizer takes the quick ones first. */
  testSeconds: Map<string, number>
}

/** A part of the script. */
export interface Part {
  name: string
  /** Seconds that it may take at most. */
  limit: number
  /** Seconds that earlier parts leave for it. */
  reserve: number
  /** Not asked for by its name: it runs before groups of rows that are. */
  forGroups?: boolean
  /** Gives false where nothing that follows makes sense. */
  run(run: Run, seconds: number): Promise<boolean | void>
}

const groups = [
  { name: 'attention', limit: 130, reserve: 45 },
  { name: 'decode', limit: 200, reserve: 100 },
  { name: 'train', limit: 100, reserve: 35 },
  { name: 'vqgan', limit: 70, reserve: 25 },
  { name: 'codebook', limit: 40, reserve: 15 },
]

/** The names of the groups that have a peer's process of their own. */
export const GROUPS: readonly string[] = groups.map(({ name }) => name)

/** All parts, in their order. */
export const PARTS: readonly Part[] = [
  { name: 'info', limit: 90, reserve: 10, run: lookAround },
  { name: 'ceilings', limit: 80, reserve: 30, run: measureCeilings },
  { name: 'tests', limit: 150, reserve: 60, run: runNativeTests },
  { name: 'sanitizer', limit: 80, reserve: 40, run: runSanitizer },
  { name: 'compile', limit: 150, reserve: 0, forGroups: true, run: waitForPeers },
  ...groups.map(({ name, limit, reserve }) => ({
    name,
    limit,
    reserve,
    run: (run: Run, seconds: number) => compare(run, [name], name, seconds),
  })),
]

// --- what is there ---------------------------------------------------------------------------------------------------

async function lookAround(run: Run): Promise<boolean> {
  const { session, python } = run
  const { log } = session
  const gpus = await output('nvidia-smi', [
    '--query-gpu=name,driver_version,memory.total,pstate,clocks.sm,clocks.mem,power.limit',
    '--format=csv,noheader',
  ])
  log.say(`nvidia-smi: ${gpus.text ?? gpus.problem}`)
  session.driver = gpus.text?.split(',')[1]?.trim() ?? null

  const about = await askAbout(python, 60)
  log.say(`PyTorch: ${JSON.stringify(about)}`)
  await askBackend(run)
  const libraries = session.backend?.cuda?.libraries
  if (libraries && !run.env['VILG_CUBLASLT'] && !('missing' in about) && about.cublasLt !== null) {
    const found = libraries['cublasLt']
    if (found && 'missing' in found) {
      run.env['VILG_CUBLASLT'] = about.cublasLt
      await askBackend(run)
    }
  }
  const { text, problem } = await output(
    process.execPath,
    [...tsx, inRoot('lib/cli/main.ts'), 'info'],
    run.env,
  )
  log.say(`ernie-vilg info:\n${text ?? problem}`)

  makePeers(run, about)
  const [device] = session.backend?.cuda?.devices ?? []
  if (!device) {
    const reason = session.backend?.fallbackReason ?? 'the library cannot say'
    session.report({ check: 'device', ok: false, detail: `no CUDA device: ${reason}` })
    return gpus.text !== undefined // with a GPU, the tests may tell more
  }
  session.report({ check: 'device', ok: true, detail: `${device.name}, ${device.computeCapability}` })
  if (device.emulated && !run.tiny) {
    session.report({ check: 'device', ok: false, detail: 'an emulation, which can do no more than --tiny' })
    return false
  }
  const { ceilings } = session.settings
  // two copies have to fit, beside what others hold
  ceilings.copyBytes = Math.min(ceilings.copyBytes, Math.floor((device.memory.available * 0.4) / 1e6) * 1e6)
  return true
}

async function askBackend({ session, env }: Run): Promise<void> {
  const { text, problem } = await output(
    process.execPath,
    [...tsx, inRoot('lib/cli/main.ts'), 'info', '--json'],
    env,
  )
  if (text === undefined) session.log.say(`ernie-vilg info --json: ${problem}`)
  else session.backend = (JSON.parse(text) as { backend: BackendInfo }).backend
}

function makePeers(run: Run, about: About | { missing: string }): void {
  const { session, python, tiny } = run
  const unavailable = (failed: string) => session.report({ row: '*', by: 'PyTorch', failed })
  if ('missing' in about) return unavailable(`there is no PyTorch (${about.missing})`)
  if (about.device === null && !tiny) return unavailable('PyTorch sees no CUDA device')
  session.peers = { python: about.python, torch: about.torch, cuda: about.cuda }
  run.peers = new Peers({
    python,
    settings: session.settings,
    cpu: about.device === null,
    report: session.report,
    keep: (who, line) => session.log.keep(who, line),
  })
}

// --- measurements ----------------------------------------------------------------------------------------------------

async function measureCeilings(run: Run, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000
  await compare(run, ['copy', 'matmul'], 'ceilings', seconds * 0.7)
  const library = run.session.backend?.cuda?.libraries['cublasLt']
  if (library && !('missing' in library)) {
    const env = { ...run.env, VILG_CUBLASLT: 'off' }
    await measureOurs(run, WITHOUT_LIBRARY, ['matmul'], env, (end - performance.now()) / 1000)
  }
  for (const group of run.comparedGroups) run.peers?.prepare(group)
}

/** Peers that still compile would slow down what is measured. */
async function waitForPeers(run: Run, seconds: number): Promise<void> {
  for (const group of run.comparedGroups) run.peers?.prepare(group)
  await run.peers?.ready(seconds)
}

/** Our side of some trials, then the peers' side of their group. */
async function compare(run: Run, trials: readonly string[], group: string, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000
  await measureOurs(run, US, trials, run.env, seconds * 0.7)
  await run.peers?.measure(group, (end - performance.now()) / 1000)
}

async function measureOurs(
  { session }: Run,
  by: string,
  trials: readonly string[],
  env: NodeJS.ProcessEnv,
  seconds: number,
): Promise<void> {
  const script = inRoot('bench/gpu/measure.ts')
  const args = [...tsx, script, by, JSON.stringify(session.settings), ...trials]
  const child = start(process.execPath, args, {
    env,
    onLine: (line, from) => {
      session.log.keep(`${by} ${trials.join(' ')}`, line)
      const entry = from === 'output' ? parseEntry(line) : undefined
      if (entry) session.report(entry)
    },
  })
  child.limit(seconds)
  const problem = whatWentWrong(await child.ended)
  if (problem === undefined) return
  session.report({ check: `${by} runs the trials ${trials.join(', ')}`, ok: false, detail: problem })
}

// --- the native tests ------------------------------------------------------------------------------------------------

/** The test program with the environment in which it runs its kernels on the plugin. */
function testProgram({ session, env, tiny }: Run) {
  const plugin =
    session.backend?.cuda?.plugin ?? env['VILG_CUDA_PLUGIN'] ?? inRoot('build/Release/libvilg_cuda.so')
  return {
    program: inRoot('build/tests/vilg_cuda_tests'),
    env: { ...env, VILG_CUDA_PLUGIN: plugin, VILG_FIXTURES: inRoot('test/fixtures') },
    parallel: Math.max(1, Math.min(8, availableParallelism() >> 1)),
    // an emulated device takes minutes for all of them
    wanted: (name: string) => !tiny || /wrappers|^cuda_(add|convert)$/.test(name),
  }
}

async function runNativeTests(run: Run, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000
  const { session } = run
  const { program, env, parallel, wanted } = testProgram(run)
  if (!existsSync(program)) {
    session.report({ check: 'tests', ok: false, detail: `${program} is not there: npm run build:tests` })
    return
  }
  try {
    const names = (await listTests(program, env)).filter(wanted)
    const isWrapper = (name: string) => name.startsWith('cuda_wrappers')
    // first what shows that the other tests speak of the same instructions
    for (const [check, some] of [
      ['instructions are what the emulation takes them for', names.filter(isWrapper)],
      ['native tests', names.filter((name) => !isWrapper(name))],
    ] as const) {
      const left = (end - performance.now()) / 1000
      const options = { command: [program] as [string], env, parallel, secondsEach: 100, seconds: left }
      const result = await runTests(some, {
        ...options,
        onEnd: ({ name, ok, seconds: took, output: lines }) => {
          run.testSeconds.set(name, took)
          for (const line of lines) session.log.keep(`test ${name}`, line)
          if (!ok) session.log.say(`FAIL ${name}\n${lines.slice(-6).join('\n')}`)
        },
      })
      const failed = result.runs.filter(({ ok }) => !ok)
      const detail = [
        `${result.runs.length - failed.length} passed`,
        ...(failed.length > 0
          ? [
              `${failed.length} failed: ${failed.map(({ name, problem }) => `${name} (${problem})`).join(', ')}`,
            ]
          : []),
        ...(result.left.length > 0 ? [`${result.left.length} not run for want of time`] : []),
      ]
      const ok = failed.length === 0 && result.left.length === 0 && result.runs.length > 0
      session.report({ check, ok, detail: detail.join('; ') })
    }
  } catch (error) {
    session.report({ check: 'tests', ok: false, detail: (error as Error).message })
  }
}

async function runSanitizer(run: Run, seconds: number): Promise<void> {
  const { session, testSeconds } = run
  const { program, env, parallel, wanted } = testProgram(run)
  const sanitizer = findSanitizer(env)
  if (sanitizer === undefined) {
    session.report({ check: 'compute-sanitizer', ok: true, detail: 'is not there' })
    return
  }
  try {
    const time = (name: string) => testSeconds.get(name) ?? 0
    const names = (await listTests(program, env)).filter(wanted).toSorted((a, b) => time(a) - time(b))
    const options = { env, parallel, secondsEach: 60, seconds: seconds / TOOLS.length }
    for (const tool of TOOLS) session.report(await sanitize(tool, sanitizer, program, names, options))
  } catch (error) {
    session.report({ check: 'compute-sanitizer', ok: false, detail: (error as Error).message })
  }
}

// --- programs --------------------------------------------------------------------------------------------------------

const tsx = ['--import', 'tsx'] as const

/** What a program prints. */
async function output(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ text: string; problem?: undefined } | { text?: undefined; problem: string }> {
  const lines: string[] = []
  const errors: string[] = []
  const run = start(command, args, {
    env,
    cwd: root,
    onLine: (line, from) => (from === 'output' ? lines : errors).push(line),
  })
  run.limit(80)
  const problem = whatWentWrong(await run.ended)
  if (problem === undefined) return { text: lines.join('\n') }
  return { problem: [problem, ...errors.slice(-3)].join('\n') }
}
