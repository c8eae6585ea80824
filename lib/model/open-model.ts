import type { TaskControl } from '../../types/native.d.ts'
import type { NativeModelOptions } from '../../types/native-models.d.ts'
import { callNative, checkSignal } from '../native/call.ts'
import { resolveDevice, resolvePrecision } from '../native/options.ts'
import { expectInteger, expectString, rejectUnknownKeys, typeMismatch } from '../validate.ts'
import { readModelFolder } from './config-file.ts'
import type { CreateOptions, LoadOptions } from './model.ts'

/** What tells one kind of model from another when one is made. */
export interface ModelKind<Config, Handle> {
  /** Checks what a caller or a file says, and fills in every field. */
  check(config: unknown): Config
  create(config: Config, options: NativeModelOptions, seed: number, control: TaskControl): Promise<Handle>
  load(config: Config, options: NativeModelOptions, weights: string, control: TaskControl): Promise<Handle>
}

/** A fresh model: its config with every field, and its native side. */
export async function createModel<Config, Handle>(
  kind: ModelKind<Config, Handle>,
  config: unknown,
  options: CreateOptions,
): Promise<[config: Config, handle: Handle]> {
  const checked = kind.check(config)
  const model = checkModelOptions('create options', options, ['seed'])
  const seed = expectInteger('seed', options.seed ?? 0, { min: 0, max: Number.MAX_SAFE_INTEGER })
  const handle = await callNative({ signal: options.signal }, (control) =>
    kind.create(checked, model, seed, control),
  )
  return [checked, handle]
}

/** The model of a folder: its config with every field, and its native side. */
export async function loadModel<Config, Handle>(
  kind: ModelKind<Config, Handle>,
  folder: string,
  options: LoadOptions,
): Promise<[config: Config, handle: Handle]> {
  expectString('folder', folder)
  const model = checkLoadOptions(options)
  const { signal, onProgress } = options
  const report =
    onProgress && ((done: number, total: number) => onProgress({ phase: 'load', fraction: done / total }))
  return readModelFolder(folder, kind.check, async (config, weights) => {
    const handle = await callNative({ signal, onProgress: report }, (control) =>
      kind.load(config, model, weights, control),
    )
    return [config, handle]
  })
}

/** Checks the options of whatever is loaded from a folder. */
export function checkLoadOptions(options: LoadOptions): NativeModelOptions {
  const model = checkModelOptions('load options', options, ['onProgress'])
  const { onProgress } = options
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw typeMismatch('onProgress', 'a function', onProgress)
  }
  return model
}

function checkModelOptions(
  name: string,
  options: CreateOptions | LoadOptions,
  keys: readonly string[],
): NativeModelOptions {
  rejectUnknownKeys(name, options, ['device', 'precision', 'signal', ...keys])
  checkSignal(options.signal)
  // `ref`, the scalar oracle that the fast kernels are held against, is for tests and in no type
  const backend = (options.device as string) === 'ref' ? 'ref' : resolveDevice('device', options.device)
  return { backend, precision: resolvePrecision('precision', options.precision) }
}
