import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** How a process ended. */
export interface Ending {
  code: number | null
  signal: NodeJS.Signals | null
  /** Why it did not run at all. */
  error?: Error
  /** It ran out of the time that {@link Run.limit} gave it. */
  timedOut: boolean
  seconds: number
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** Called with every line of its output and its errors. */
  onLine?: (line: string, from: 'output' | 'errors') => void
}

/** A process and its children, which are ended together. */
export interface Run {
  readonly ended: Promise<Ending>
  /** Has it killed unless it ends in so many seconds from now; a later limit replaces an earlier one. */
  limit(seconds: number): void
  /** Writes a line to its input. */
  say(line: string): void
  kill(): void
}

const running = new Set<ChildProcess>()
process.on('exit', killAll)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    killAll()
    process.exit(1)
  })
}

/** Starts a program in a process group of its own. */
export function start(command: string, args: readonly string[], options: RunOptions = {}): Run {
  const begin = performance.now()
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  })
  running.add(child)
  child.stdin.on('error', () => {}) // it has ended; how, `ended` says
  const read = [child.stdout, child.stderr].map((stream, i) => {
    const lines = createInterface({ input: stream })
    lines.on('line', (line) => options.onLine?.(line, i === 0 ? 'output' : 'errors'))
    return new Promise<void>((resolve) => lines.once('close', resolve))
  })
  let timer: NodeJS.Timeout | undefined
  let timedOut = false
  const ended = new Promise<Ending>((resolve) => {
    const end = async (code: number | null, signal: NodeJS.Signals | null, error?: Error) => {
      running.delete(child)
      clearTimeout(timer)
      if (!error) {
        kill(child) // what it has left running would keep its output open
        await Promise.all(read)
      }
      const seconds = (performance.now() - begin) / 1000
      resolve({ code, signal, timedOut, seconds, ...(error ? { error } : {}) })
    }
    child.once('error', (error) => void end(null, null, error))
    child.once('exit', (code, signal) => void end(code, signal))
  })
  return {
    ended,
    limit(seconds) {
      clearTimeout(timer)
      timer = setTimeout(
        () => {
          timedOut = true
          kill(child)
        },
        Math.max(0, seconds * 1000),
      )
    },
    say: (line) => void child.stdin.write(`${line}\n`),
    kill: () => kill(child),
  }
}

/** Says in words why an ending is none that one would want; undefined where it is. */
export function whatWentWrong({ code, signal, error, timedOut, seconds }: Ending): string | undefined {
  if (error) return error.message
  if (timedOut) return `stopped after ${seconds.toFixed(0)} s`
  if (signal) return `ended by ${signal}`
  return code === 0 ? undefined : `exit code ${code}`
}

function kill(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // nobody is left
  }
}

function killAll(): void {
  for (const child of running) kill(child)
}
