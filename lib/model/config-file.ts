import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ErrorDetails, VilgError } from '../errors.ts'
import { describeValue, rejectUnknownKeys, typeMismatch } from '../validate.ts'

/** The file that makes a folder a model. */
export const CONFIG_FILE = 'config.json'
/** The weights beside it. */
export const WEIGHTS_FILE = 'weights.safetensors'

/** Keys of a configuration. */
export interface ConfigKeys {
  known: readonly string[]
  /** Those of features that this version does not have: `false` says that the model does without. */
  unsupported: readonly string[]
}

/** Throws for keys that are unknown, and for features that are not there. */
export function checkConfigKeys(name: string, config: unknown, { known, unsupported }: ConfigKeys): void {
  if (config === undefined) throw typeMismatch(name, 'an object', config)
  rejectUnknownKeys(name, config, [...known, ...unsupported])
  for (const key of unsupported) {
    const value = (config as Record<string, unknown>)[key]
    if (value === undefined || value === false) continue
    throw new VilgError(
      'ERR_VILG_UNSUPPORTED',
      `Expected ${name} without ${key}, which this version does not have, received ${describeValue(value)}`,
      { argument: key },
    )
  }
}

/** Reads a JSON object. */
export async function readJson(path: string, missing: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    const reason = absent ? missing : `Could not read ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', reason, { path }, { cause })
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const message = `Expected JSON in ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path }, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const message = `Expected a JSON object in ${path}, found ${describeValue(value)}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path })
  }
  return value as Record<string, unknown>
}

/**
 * Reads the config of a model folder, checks it, and gives it to `use` with the path of the weights. What either finds wrong with the
 * config is a file that does not fit here.
 *
 * @throws ERR_VILG_IO, ERR_VILG_CHECKPOINT_FORMAT; ERR_VILG_CHECKPOINT_INCOMPATIBLE, see {@link checkFile}
 */
export async function readModelFolder<Config, T>(
  folder: string,
  check: (config: unknown) => Config,
  use: (config: Config, weights: string) => Promise<T>,
): Promise<T> {
  const path = join(folder, CONFIG_FILE)
  const json = await readJson(
    path,
    `Expected a model folder with ${CONFIG_FILE} and ${WEIGHTS_FILE}, found no ${CONFIG_FILE} in ${folder}`,
  )
  return checkFile(path, () => use(check(json), join(folder, WEIGHTS_FILE)))
}

/**
 * Runs `check` on what a file said: an argument that would be invalid is a file that does not fit here.
 *
 * @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE in place of ERR_VILG_INVALID_ARGUMENT, with the path
 */
export async function checkFile<T>(path: string, check: () => T | Promise<T>): Promise<T> {
  try {
    return await check()
  } catch (cause) {
    if (!(cause instanceof VilgError) || cause.code !== 'ERR_VILG_INVALID_ARGUMENT') throw cause
    const details: ErrorDetails = { path, ...cause.details }
    throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', `${path}: ${cause.message}`, details, { cause })
  }
}

/** The text of a configuration's file. */
export function configText(config: object): string {
  return `${JSON.stringify(config, null, 2)}\n`
}
