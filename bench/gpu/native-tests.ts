import { type RunOptions, start, whatWentWrong } from './processes.ts'

/** How one native test went. */
export interface TestRun {
  name: string
  ok: boolean
  seconds: number
  code: number | null
  /** Why it is not ok. */
  problem?: string
  output: string[]
}

export interface TestOptions {
  /** What runs a test, its name with `=` before it as the last argument. */
  command: readonly [string, ...string[]]
  env: NodeJS.ProcessEnv
  /** How many at once. */
  parallel: number
  /** What one of them may take. */
  secondsEach: number
  /** What all of them may take; those that have not begun by then are left out. */
  seconds: number
  onEnd?: (run: TestRun) => void
}

/** The names of a test program's tests. */
export async function listTests(program: string, env: NodeJS.ProcessEnv): Promise<string[]> {
  const names: string[] = []
  const errors: string[] = []
  const onLine: RunOptions['onLine'] = (line, from) => (from === 'output' ? names : errors).push(line)
  const run = start(program, ['--list'], { env, onLine })
  run.limit(20)
  const problem = whatWentWrong(await run.ended)
  if (problem !== undefined) throw new Error([`${program} --list: ${problem}`, ...errors].join('\n'))
  if (names.length === 0) throw new Error(`${program} has no tests`)
  return names
}

/** Runs each test in a process of its own: what one of them breaks, a device's context included, is not the next one's. */
export async function runTests(
  names: readonly string[],
  { command, env, parallel, secondsEach, seconds, onEnd }: TestOptions,
): Promise<{ runs: TestRun[]; left: string[] }> {
  const [program, ...prefix] = command
  const end = performance.now() + seconds * 1000
  const left = [...names]
  const runs: TestRun[] = []
  async function work(): Promise<void> {
    while (left.length > 0) {
      const remaining = (end - performance.now()) / 1000
      if (remaining <= 0) return
      const name = left.shift()!
      const output: string[] = []
      const run = start(program, [...prefix, `=${name}`], { env, onLine: (line) => output.push(line) })
      run.limit(Math.min(secondsEach, remaining + 5))
      const ending = await run.ended
      const problem = whatWentWrong(ending)
      const one = { name, ok: problem === undefined, seconds: ending.seconds, code: ending.code, output }
      const done = problem === undefined ? one : { ...one, problem }
      runs.push(done)
      onEnd?.(done)
    }
  }
  await Promise.all(Array.from({ length: parallel }, work))
  return { runs, left }
}
