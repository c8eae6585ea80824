import { isDeepStrictEqual } from 'node:util'
import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import { makeFolder } from '../make-folder.ts'
import { parseJsonObject, readTextIfThere, writeTextAtomically } from '../tokenizer/vocabulary-file.ts'

/** A checkpoint of a run. */
export interface RunCheckpoint {
  step: number
  path: string
}

/** Which of a run's options say what the data is. */
export interface DataOptions {
  dataKeys: readonly string[]
  /** Whether these may be others than the run was begun with. */
  changeData: boolean
}

const partialPrefix = '.partial-'
const dataStateFile = 'data.json'

/**
 * The folder of a run:
 *
 * - `options.json`: what decides the run, written when it begins
 * - `log.jsonl`: a line a step, and one for whatever else happens
 * - `checkpoints/<step>`: whole ones only; one in the making has another name
 * - `tensorboard/`: the same numbers and samples for TensorBoard
 * - pictures: curves and samples
 */
export class RunFolder {
  readonly path: string
  /** The options that say what the data is. */
  readonly #data: Record<string, unknown>

  private constructor(path: string, data: Record<string, unknown>) {
    this.path = path
    this.#data = data
  }

  /**
   * Opens the run in `path`, or begins one there. A folder whose run was begun with other options is an error that names them.
   *
   * @param options JSON; those of `dataKeys` may be others where `changeData` is set, and are written down then
   */
  static async open(
    path: string,
    options: Record<string, unknown>,
    { dataKeys, changeData }: DataOptions = { dataKeys: [], changeData: false },
  ): Promise<RunFolder> {
    const plain = JSON.parse(JSON.stringify(options)) as Record<string, unknown>
    const folder = new RunFolder(path, Object.fromEntries(dataKeys.map((key) => [key, plain[key]])))
    await makeFolder(folder.#checkpoints)
    const file = join(path, 'options.json')
    const text = await readTextIfThere(file)
    const known = text === undefined ? undefined : parseJsonObject(text, file)
    if (known !== undefined) folder.#checkOptions(known, plain, dataKeys, changeData)
    if (known === undefined || changeData)
      await writeTextAtomically(file, `${JSON.stringify(plain, null, 2)}\n`)
    await folder.#removePartial()
    return folder
  }

  #checkOptions(
    known: Record<string, unknown>,
    given: Record<string, unknown>,
    dataKeys: readonly string[],
    changeData: boolean,
  ): void {
    const keys = [...new Set([...Object.keys(known), ...Object.keys(given)])]
    const differing = keys.filter((key) => !isDeepStrictEqual(known[key], given[key]))
    const refused = changeData ? differing.filter((key) => !dataKeys.includes(key)) : differing
    if (refused.length === 0) return
    const places = refused.flatMap((key) => differences(key, known[key], given[key]))
    const advice = refused.every((key) => dataKeys.includes(key))
      ? 'Give the same ones, another folder, or changeData (train --force) to go on with other data'
      : 'Give the same ones, or another folder'
    const message =
      `Expected the options that the run in ${this.path} was begun with, received others: ${places.join('; ')}. ` +
      advice
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', message, { path: this.path, differing: places })
  }

  /** Writes into a checkpoint where its data stands. */
  async writeDataState(path: string, state: unknown): Promise<void> {
    await writeTextAtomically(join(path, dataStateFile), `${JSON.stringify({ of: this.#data, state })}\n`)
  }

  /** Where the data of a checkpoint stands; nothing where it says nothing, or where it is of other data than is given now. */
  async dataState({ path }: RunCheckpoint): Promise<{ isOther: boolean; state?: unknown }> {
    const file = join(path, dataStateFile)
    const text = await readTextIfThere(file)
    if (text === undefined) return { isOther: false }
    const { of, state } = parseJsonObject(text, file)
    return isDeepStrictEqual(of, this.#data) ? { isOther: false, state } : { isOther: true }
  }

  /** The log's path. */
  get log(): string {
    return join(this.path, 'log.jsonl')
  }

  /** Where the event files of TensorBoard are. */
  get tensorBoard(): string {
    return join(this.path, 'tensorboard')
  }

  get #checkpoints(): string {
    return join(this.path, 'checkpoints')
  }

  /** All checkpoints, the oldest first. */
  async list(): Promise<RunCheckpoint[]> {
    const names = await readdir(this.#checkpoints)
    return names
      .filter((name) => /^(0|[1-9][0-9]*)$/.test(name))
      .map((name) => ({ step: Number(name), path: join(this.#checkpoints, name) }))
      .sort((a, b) => a.step - b.step)
  }

  /** The newest checkpoint, or undefined. */
  async latest(): Promise<RunCheckpoint | undefined> {
    return (await this.list()).at(-1)
  }

  /**
   * Makes a checkpoint: `write` fills a folder that gets its name when it is whole. Then all but the newest `keep` go.
   *
   * @returns its path
   */
  async add(step: number, keep: number, write: (path: string) => Promise<void>): Promise<string> {
    const partial = join(this.#checkpoints, `${partialPrefix}${step}`)
    const path = join(this.#checkpoints, String(step))
    try {
      await write(partial)
      await this.#remove(path) // of the same step, and so the same content
      await rename(partial, path)
      for (const old of (await this.list()).slice(0, -keep)) await this.#remove(old.path)
    } catch (error) {
      await rm(partial, { recursive: true, force: true }).catch(() => {}) // the first error is the one to tell
      if (error instanceof VilgError) throw error
      const text = `Could not write the checkpoint ${path}: ${(error as Error).message}`
      throw new VilgError('ERR_VILG_IO', text, { path }, { cause: error })
    }
    return path
  }

  /** Under another name first, so that a half-removed one is none. */
  async #remove(path: string): Promise<void> {
    const partial = join(this.#checkpoints, `${partialPrefix}old`)
    await rm(partial, { recursive: true, force: true })
    try {
      await rename(path, partial)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    await rm(partial, { recursive: true, force: true })
  }

  async #removePartial(): Promise<void> {
    for (const name of await readdir(this.#checkpoints)) {
      if (name.startsWith(partialPrefix))
        await rm(join(this.#checkpoints, name), { recursive: true, force: true })
    }
  }
}

/** Where two JSON values differ: `path: was a, is b`. */
function differences(path: string, was: unknown, is: unknown): string[] {
  if (isDeepStrictEqual(was, is)) return []
  if (isObject(was) && isObject(is)) {
    const keys = new Set([...Object.keys(was), ...Object.keys(is)])
    return [...keys].flatMap((key) => differences(path === '' ? key : `${path}.${key}`, was[key], is[key]))
  }
  return [`${path} was ${JSON.stringify(was) ?? 'not given'}, is ${JSON.stringify(is) ?? 'not given'}`]
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
