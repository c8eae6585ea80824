import { randomUUID } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import { makeFolder } from '../make-folder.ts'
import {
  parseJsonObject,
  readText,
  readTextIfThere,
  writeTextAtomically,
} from '../tokenizer/vocabulary-file.ts'
import { TARGET_KINDS, type TargetKind, type TrainerOptions } from './options.ts'

const headerFile = 'trainer.json'
const statePattern = /^state-[0-9a-f-]+\.safetensors$/
const formatVersion = 1

/** What a checkpoint says besides the numbers of its state file. */
export interface CheckpointHeader {
  kind: TargetKind
  /** The config of the model. */
  model: Record<string, unknown>
  options: TrainerOptions
  /** Updates so far. */
  step: number
  /** The loss of the last step; none before the first. */
  lastLoss?: number
}

/**
 * Writes a checkpoint over the one that may be in `folder`: the state under a new name, then the header, which names it, by a
 * rename. So whenever the process dies, the header that is there has its whole state beside it.
 */
export async function writeCheckpoint(
  folder: string,
  header: CheckpointHeader,
  writeState: (path: string) => Promise<void>,
): Promise<void> {
  await makeFolder(folder)
  const state = `state-${randomUUID()}.safetensors`
  try {
    await writeState(join(folder, state))
    const text = JSON.stringify(
      { format: 'ernie-vilg-trainer', version: formatVersion, ...header, state },
      null,
      2,
    )
    await writeTextAtomically(join(folder, headerFile), `${text}\n`)
  } catch (error) {
    await rm(join(folder, state), { force: true }).catch(() => {}) // the first error is the one to tell
    throw error
  }
  for (const name of await readdir(folder)) {
    if (statePattern.test(name) && name !== state) await rm(join(folder, name), { force: true })
  }
}

/** Reads the header of the checkpoint in `folder`, and says where its state is. */
export async function readCheckpoint(
  folder: string,
): Promise<{ header: CheckpointHeader; statePath: string }> {
  const path = join(folder, headerFile)
  const text = await readTextIfThere(path)
  if (text === undefined) {
    // For its error, where the folder itself is what is missing or cannot be read.
    const names = await readdir(folder).catch(() => readText(path))
    const text = `Expected a checkpoint of a trainer in ${folder}, which has no ${headerFile} (${names.length} other entries)`
    throw new VilgError('ERR_VILG_IO', text, { path })
  }
  const { format, version, state, ...header } = parseJsonObject(text, path)
  const problem = headerProblem({ format, version, state, ...header })
  if (problem !== undefined) {
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', `Expected ${problem} in ${path}`, { path })
  }
  return { header: header as unknown as CheckpointHeader, statePath: join(folder, state as string) }
}

function headerProblem(header: Record<string, unknown>): string | undefined {
  const { format, version, kind, model, options, step, state } = header
  if (format !== 'ernie-vilg-trainer') return "format 'ernie-vilg-trainer'"
  if (version !== formatVersion) return `version ${formatVersion}`
  if (!(TARGET_KINDS as readonly unknown[]).includes(kind))
    return `kind to be one of ${TARGET_KINDS.join(', ')}`
  if (typeof model !== 'object' || model === null) return 'the config of a model'
  if (typeof options !== 'object' || options === null) return 'the options of a trainer'
  if (!Number.isSafeInteger(step) || (step as number) < 0) return 'a number of steps'
  if (typeof state !== 'string' || !statePattern.test(state)) return 'the name of a state file'
  return undefined
}
