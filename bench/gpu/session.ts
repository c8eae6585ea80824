import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { BackendInfo } from '../../lib/backend-info.ts'
import { textTable } from '../format.ts'
import { currentCommit } from '../git.ts'
import { describeMachine } from '../machine.ts'
import { judgeRows } from './judge.ts'
import { Log } from './log.ts'
import { type Check, type Entry, isCheck, isFailed, isMeasured, US } from './records.ts'
import { type GpuResult, resultFile } from './result.ts'
import { makeRows } from './rows.ts'
import type { Settings } from './settings.ts'
import { checkLines, tableRows } from './table.ts'

/** One run of the script: what it has found out so far, which is written as it comes. */
export class Session {
  readonly log: Log
  readonly entries: Entry[] = []
  settings: Settings
  backend: BackendInfo | undefined
  driver: string | null = null
  peers: GpuResult['peers'] = null

  readonly #folder: string
  readonly #command: string
  readonly #git: GpuResult['git']
  readonly #date = new Date().toISOString()
  readonly #begin = performance.now()
  readonly #seconds: number

  constructor(folder: string, command: string, settings: Settings, seconds: number, commit?: string) {
    mkdirSync(folder, { recursive: true })
    this.#folder = folder
    this.#command = command
    this.#git = commit === undefined ? currentCommit() : { commit, dirty: false }
    this.#seconds = seconds
    this.settings = settings
    this.log = new Log(join(folder, 'log.txt'))
    writeFileSync(join(folder, 'entries.jsonl'), '')
  }

  /** Seconds that are left of the whole run. */
  get left(): number {
    return this.#seconds - (performance.now() - this.#begin) / 1000
  }

  get checks(): Check[] {
    return this.entries.filter(isCheck)
  }

  /** Whether everything that has to be right is. That a peer did not run is not our mistake. */
  get right(): boolean {
    return (
      this.checks.every(({ ok }) => ok) &&
      !this.entries.some((entry) => isFailed(entry) && entry.by.startsWith(US))
    )
  }

  /** Keeps something that was found out. */
  report = (entry: Entry): void => {
    this.entries.push(entry)
    appendFileSync(join(this.#folder, 'entries.jsonl'), `${JSON.stringify(entry)}\n`)
    if (isMeasured(entry)) this.log.say(`${entry.row}: ${entry.by} ${entry.median.toPrecision(4)} ms`)
    else if (isFailed(entry)) this.log.say(`${entry.row}: ${entry.by} failed: ${entry.failed}`)
    else this.log.say(checkLines([entry])[0]!)
  }

  /** The table, the checks before it. */
  get table(): string {
    const rows = makeRows(this.settings)
    const table = textTable(tableRows(rows, judgeRows(rows, this.entries)))
    return [...checkLines(this.checks), '', table].join('\n')
  }

  /** Writes the table and, where there was a device, the result, into the folder of the run; gives the result. */
  write(): { name: string; text: string } | null {
    writeFileSync(join(this.#folder, 'table.txt'), `${this.table}\n`)
    const cuda = this.backend?.cuda
    if (!cuda) return null
    const [device] = cuda.devices as [(typeof cuda.devices)[number]]
    const result: GpuResult = {
      command: this.#command,
      date: this.#date,
      git: this.#git,
      device,
      libraries: cuda.libraries,
      driver: this.driver,
      machine: describeMachine(),
      peers: this.peers,
      seconds: Math.round(this.#seconds - this.left),
      settings: this.settings,
      checks: this.checks,
      judged: judgeRows(makeRows(this.settings), this.entries),
      entries: this.entries.filter((entry) => !isCheck(entry)),
    }
    const text = `${JSON.stringify(result, null, 2)}\n`
    const name = resultFile(device.name)
    writeFileSync(join(this.#folder, name), text)
    return { name, text }
  }
}
