import { join, resolve } from 'node:path'
import type { NativeHandle, TaskControl } from '../../types/native.d.ts'
import type { NativePrecision } from '../../types/native-models.d.ts'
import { callNative, checkSignal } from '../native/call.ts'
import { Lifetime } from '../native/lifetime.ts'
import type { Device, Precision } from '../native/options.ts'
import { expectOneOf, expectString, rejectUnknownKeys } from '../validate.ts'
import { CallQueue } from './call-queue.ts'
import { CONFIG_FILE, configText, WEIGHTS_FILE } from './config-file.ts'
import { readIfThere, writeDraft, writeFolder } from './model-folder.ts'

/** What a long call takes. */
export interface CallSignal {
  /** Ends the call; it rejects with the signal's reason. */
  signal?: AbortSignal | undefined
}

/** Where loading is. */
export interface LoadProgressEvent {
  phase: 'load'
  /** The share of the weights that is loaded, in (0, 1]; never falls. */
  fraction: number
}

/** Options of a model that is loaded from a folder. */
export interface LoadOptions extends CallSignal {
  /** `auto` unless given. */
  device?: Device
  /** How matrices are stored and multiplied; `float32` unless given. Training needs `float32`. */
  precision?: Precision
  /** Called on the calling thread; what it throws rejects the call. */
  onProgress?: (event: LoadProgressEvent) => void
}

/** Options of a fresh model. */
export interface CreateOptions extends CallSignal {
  /** `auto` unless given. */
  device?: Device
  /** How matrices are stored and multiplied; `float32` unless given. Training needs `float32`. */
  precision?: Precision
  /** Of the fresh weights, 0 to 2^53 - 1; 0 unless given. Same seed, same weights. */
  seed?: number
}

/** Options of {@link Model.save}. */
export interface SaveOptions extends CallSignal {
  /** How matrices are written; as the model holds them unless given. Vectors and codebooks are written in float32. */
  precision?: 'float32' | 'bfloat16'
}

/** What the native handles of models have in common. */
export interface NativeModel extends NativeHandle {
  readonly parameterCount: number
  readonly device: string
  readonly precision: NativePrecision
  save(path: string, precision: NativePrecision, control?: TaskControl): Promise<void>
}

/**
 * What {@link Generator}, {@link ImageTokenizer} and {@link Matcher} have in common.
 *
 * Calls on one model run one after the other, in the order in which they were made.
 */
export abstract class Model<Config extends object, Handle extends NativeModel> {
  /** Elements of all weights together. */
  readonly parameterCount: number
  /** Where it computes: `cpu`. */
  readonly device: string
  /** How matrices are stored and multiplied. */
  readonly precision: NativePrecision
  /** For sessions and trainers. @internal */
  readonly handle: Handle
  /** @internal */
  readonly life: Lifetime
  readonly #queue = new CallQueue()
  #config: Readonly<Required<Config>>

  /** @internal */
  protected constructor(name: string, config: Readonly<Required<Config>>, handle: Handle) {
    this.#config = config
    this.handle = handle
    this.parameterCount = handle.parameterCount
    this.device = handle.device
    this.precision = handle.precision
    this.life = new Lifetime(name, this)
  }

  /** What the model is, every field filled in; frozen. */
  get config(): Readonly<Required<Config>> {
    return this.#config
  }

  /** Changes what weights do not depend on. @internal */
  protected replaceConfig(config: Readonly<Required<Config>>): void {
    this.#config = config
  }

  /** Runs a native call when those before it are through. @internal */
  protected call<T>(
    signal: AbortSignal | undefined,
    start: (handle: Handle, control: TaskControl) => Promise<T>,
  ): Promise<T> {
    return this.life.run(
      (both) =>
        this.#queue.run(both, () => callNative({ signal: both }, (control) => start(this.handle, control))),
      signal,
    )
  }

  /**
   * Writes `config.json` and `weights.safetensors` into a folder, which is made where it is not there.
   *
   * Until all is written, what was in the folder is untouched, so a full disk or a killed process costs nothing. A model of the same
   * config is replaced by one rename: at every moment the folder holds the old weights or the new ones. A model of another config is
   * replaced by three renames; a process killed between them leaves a folder without `config.json`, which does not load, never a mixture.
   *
   * @throws ERR_VILG_IO with the system's reason (no space, no permission); ERR_VILG_DISPOSED
   */
  async save(folder: string, options: SaveOptions = {}): Promise<void> {
    rejectUnknownKeys('save options', options, ['precision', 'signal'])
    const precision = checkSavePrecision(options.precision) ?? this.precision
    checkSignal(options.signal)
    const path = resolve(expectString('folder', folder))
    const text = configText(this.config)
    await this.call(options.signal, (handle, control) =>
      writeFolder(path, CONFIG_FILE, async (draft) => {
        await handle.save(join(draft, WEIGHTS_FILE), precision, control)
        if ((await readIfThere(join(path, CONFIG_FILE))) !== text) {
          await writeDraft(join(draft, CONFIG_FILE), text)
        }
      }),
    )
  }

  /** True from the moment dispose() was called. */
  get disposed(): boolean {
    return this.life.disposed
  }

  /**
   * Frees the model. Calls that run or wait reject with `ERR_VILG_DISPOSED`, and sessions and trainers of this model end first; the
   * promise fulfils when the native work has let go. Later calls return the same promise.
   */
  dispose(): Promise<void> {
    return this.life.dispose(() => this.handle.dispose())
  }

  /** The same as {@link dispose}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/** @internal */
export function checkSavePrecision(precision: unknown): 'float32' | 'bfloat16' | undefined {
  return precision === undefined ? undefined : expectOneOf('precision', precision, ['float32', 'bfloat16'])
}
