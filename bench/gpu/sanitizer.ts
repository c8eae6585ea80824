import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'

import { runTests, type TestOptions, type TestRun } from './native-tests.ts'
import type { Check } from './records.ts'

/** The tools of compute-sanitizer that are used, with their options. */
const options = {
  // some tests are about calls that fail
  memcheck: ['--report-api-errors', 'no'],
  racecheck: [],
} as const
type Tool = keyof typeof options
/** Their names. */
export const TOOLS = Object.keys(options) as Tool[]

const errorCode = 86

/** Where compute-sanitizer is; undefined where it is not. */
export function findSanitizer(env: NodeJS.ProcessEnv): string | undefined {
  const folders = [
    ...(env['PATH'] ?? '').split(delimiter),
    ...[env['CUDA_HOME'], env['CUDA_PATH'], '/usr/local/cuda'].flatMap((home) =>
      home ? [join(home, 'bin'), join(home, 'compute-sanitizer')] : [],
    ),
  ]
  return folders
    .filter(Boolean)
    .map((folder) => join(folder, 'compute-sanitizer'))
    .find((file) => existsSync(file))
}

/** What the tool says about one test. */
export function verdict({ code, output, problem }: TestRun): 'clean' | 'faults' | 'no verdict' {
  if (code === errorCode) return 'faults'
  const summed = output.some((line) => /(ERROR|RACECHECK) SUMMARY: 0 /.test(line))
  return problem === undefined && summed ? 'clean' : 'no verdict'
}

/**
 * Runs tests under a tool, in the order given, until the time is over: the quick ones first. That few of them had a verdict is said, and is
 * no failure: the tool slows kernels down by orders of magnitude, and does not work everywhere.
 */
export async function sanitize(
  tool: Tool,
  sanitizer: string,
  program: string,
  names: readonly string[],
  how: Omit<TestOptions, 'command'>,
): Promise<Check> {
  const command: [string, ...string[]] = [
    ...([sanitizer, '--tool', tool] as const),
    ...options[tool],
    ...['--error-exitcode', String(errorCode), program],
  ]
  const begin = performance.now()
  const first = await runTests(names.slice(0, 1), { ...how, command })
  const [only] = first.runs
  if (only && verdict(only) === 'no verdict') {
    const said = only.output.at(-1) ?? only.problem
    return { check: `compute-sanitizer ${tool}`, ok: true, detail: `does not work here: ${said}` }
  }
  const seconds = how.seconds - (performance.now() - begin) / 1000
  const { runs, left } = await runTests(names.slice(1), { ...how, seconds, command })
  return summarize(tool, [...first.runs, ...runs], [...first.left, ...left])
}

/** What the runs under one tool come to. */
export function summarize(tool: Tool, runs: readonly TestRun[], left: readonly string[]): Check {
  const check = `compute-sanitizer ${tool}`
  const by = (wanted: ReturnType<typeof verdict>) => runs.filter((run) => verdict(run) === wanted)
  const faults = by('faults')
  if (faults.length > 0) {
    const first = faults[0]!.output.find((line) =>
      /^=+ (Invalid|Error|Race|Warning|Program|Uninit)/.test(line),
    )
    const names = faults.map(({ name }) => name).join(', ')
    return { check, ok: false, detail: `faults in ${names}${first ? `: ${first}` : ''}` }
  }
  const clean = by('clean').length
  const unknown = by('no verdict')
  const rest = [
    ...(unknown.length > 0
      ? [`${unknown.length} without a verdict (${unknown[0]!.problem ?? 'no summary'})`]
      : []),
    ...(left.length > 0 ? [`${left.length} left out for time`] : []),
  ]
  return { check, ok: true, detail: [`${clean} tests without a fault`, ...rest].join(', ') }
}
