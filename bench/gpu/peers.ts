import { fileURLToPath } from 'node:url'

import { type Ending, type Run, start, whatWentWrong } from './processes.ts'
import { type Entry, parseEntry, parseObject } from './records.ts'
import type { Settings } from './settings.ts'

const script = fileURLToPath(new URL('../peers/torch/main.py', import.meta.url))

/** What the peers would run on. */
export interface About {
  python: string
  torch: string
  cuda: string
  /** The device's name; null where PyTorch sees none. */
  device: string | null
  /** cuBLASLt's file that PyTorch brings. */
  cublasLt: string | null
}

/** Asks a Python what PyTorch it has; `missing` says why it has none. */
export async function askAbout(python: string, seconds: number): Promise<About | { missing: string }> {
  let about: Record<string, unknown> | undefined
  const errors: string[] = []
  const run = start(python, [script, 'about'], {
    onLine: (line, from) => {
      if (from === 'errors') errors.push(line)
      else about ??= parseObject(line)
    },
  })
  run.limit(seconds)
  const problem = whatWentWrong(await run.ended)
  if (about) return about as unknown as About | { missing: string }
  return { missing: `${python}: ${[problem, errors.at(-1)].filter(Boolean).join(': ')}` }
}

interface PeerOptions {
  python: string
  settings: Settings
  /** On the CPU, to try the scripts themselves. */
  cpu: boolean
  report: (entry: Entry) => void
  keep: (who: string, line: string) => void
}

interface Peer {
  run: Run
  ready: Promise<void>
}

/**
 * The peers, a process for each group of rows. torch.compile takes as long as all measurements together, so they compile at once while
 * other things are checked, and then wait for their turn.
 */
export class Peers {
  readonly #options: PeerOptions
  readonly #peers = new Map<string, Peer>()

  constructor(options: PeerOptions) {
    this.#options = options
  }

  /** Starts the process of a group, which gets ready for its measurement, unless it was started before. */
  prepare(group: string): void {
    if (!this.#peers.has(group)) this.#start(group)
  }

  /** Waits until those that were started are ready or have ended; ends those that are not after so many seconds. */
  async ready(seconds: number): Promise<void> {
    const late = new Set(this.#peers.keys())
    const all = [...this.#peers].map(async ([group, { ready }]) => {
      await ready
      late.delete(group)
    })
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<void>((resolve) => (timer = setTimeout(resolve, seconds * 1000)))
    await Promise.race([Promise.all(all), timeout])
    clearTimeout(timer)
    for (const group of late) {
      const peer = this.#peers.get(group)!
      this.#peers.delete(group) // it begins anew when its turn comes
      peer.run.kill()
      await peer.run.ended
    }
  }

  /** Has a group measured. What it reports, it reports; that it could not is reported as well. */
  async measure(group: string, seconds: number): Promise<void> {
    const { run } = this.#peers.get(group) ?? this.#start(group)
    run.limit(seconds)
    run.say('go')
    const ending: Ending = await run.ended
    this.#peers.delete(group)
    const problem = whatWentWrong(ending)
    if (problem !== undefined) this.#options.report({ row: group, by: 'PyTorch', failed: problem })
  }

  /** Ends those that have not had their turn. */
  kill(): void {
    for (const { run } of this.#peers.values()) run.kill()
    this.#peers.clear()
  }

  #start(group: string): Peer {
    const { python, settings, cpu, report, keep } = this.#options
    let becomeReady = () => {}
    const ready = new Promise<void>((resolve) => (becomeReady = resolve))
    const args = [script, group, '--settings', JSON.stringify(settings), ...(cpu ? ['--cpu'] : [])]
    const run = start(python, args, {
      // it starts as many compilers as there are processors for each process otherwise
      env: { TORCHINDUCTOR_COMPILE_THREADS: '4', ...process.env, PYTHONUNBUFFERED: '1' },
      onLine: (line, from) => {
        keep(`peer ${group}`, line)
        if (from === 'errors') return
        if (parseObject(line)?.['ready'] === group) becomeReady()
        const entry = parseEntry(line)
        if (entry) report(entry)
      },
    })
    void run.ended.then(becomeReady)
    const peer = { run, ready }
    this.#peers.set(group, peer)
    return peer
  }
}
