/**
 * The contract of the native module (`vilg.node`), written by hand: what csrc/napi exports, and nothing else. Only lib/native and the
 * wrappers in lib/ know it; a test compares it with what the module really exports.
 *
 * Arguments are checked by lib/ before they come here, so natives take them by position and complain about them only as a second line.
 * Typed arrays are read (copied) before a function returns, so the caller may change or transfer them at once. Results are fresh arrays.
 *
 * Every function that returns a promise works on a thread of its own and takes a {@link TaskControl} last.
 */

/** What a promise of this module can be given. */
export interface TaskControl {
  /** Raised to end the work: the promise then rejects with the `stopped` value of {@link NativeBinding.initialize}. */
  stop?: StopFlag
  /** Called with work done and in total; the latest call wins where JavaScript is slow. What it throws rejects the promise. */
  onProgress?: (done: number, total: number) => void
}

/** What every wrapped native object has. */
export interface NativeHandle {
  /** Drops this handle's share of the native object; work in flight keeps its own. Calling it again does nothing. */
  dispose(): void
  readonly disposed: boolean
}

/** Ends the tasks that were started with it. Cannot be lowered again. */
export interface StopFlag extends NativeHandle {
  raise(): void
  readonly raised: boolean
}

/** Where the native code runs. */
export interface NativeBackendInfo {
  device: string
  /** The instruction set in use, such as `x86-64-v3`. */
  isa: string
  /** Those that this machine and this build have, the best one last. */
  isas: string[]
  threads: number
  /** Host memory that can still be had; 0 where the system does not tell. */
  availableBytes: number
}

/** The constructor of {@link NativeBinding.initialize}'s errors. */
export type NativeErrorClass = new (code: never, message: string, details?: Record<string, unknown>) => Error

/** The exports of the module. */
export interface NativeBinding {
  /** The package version that the module was compiled for. */
  readonly version: string
  /**
   * Once per load: native errors are made by `new errorClass(code, message, details)` from then on, and promises whose flag was raised
   * reject with `stopped`.
   */
  initialize(errorClass: NativeErrorClass, stopped: object): void
  readonly StopFlag: new () => StopFlag

  backendInfo(): NativeBackendInfo
  /** 1 to 1024; for the whole process. */
  setThreads(threads: number): void
  /** One of `backendInfo().isas`; for the whole process. */
  setIsa(isa: string): void
  /** Every code an error of the module can have. */
  errorCodes(): string[]
}
