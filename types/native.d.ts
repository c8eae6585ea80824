/**
 * The contract of the native module (`vilg.node`), written by hand: what csrc/napi exports, and nothing else. Only lib/native and the
 * wrappers in lib/ know it; a test compares it with what the module really exports.
 *
 * Arguments are checked by lib/ before they come here, so natives take them by position and complain about them only as a second line.
 * Typed arrays are read (copied) before a function returns, so the caller may change or transfer them at once. Results are fresh arrays.
 *
 * Every function that returns a promise works on a thread of its own and takes a {@link TaskControl} last.
 */

import type { NativeModels } from './native-models.d.ts'

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
  /** The instruction set in use, such as `x86-64-v3`. */
  isa: string
  /** Those that this machine and this build have, the best one last. */
  isas: string[]
  threads: number
  /** Host memory that can still be had; 0 where the system does not tell. */
  availableBytes: number
}

/** Where to compute. */
export type NativeBackendName = 'cpu' | 'ref' | `cuda:${number}`

/** A device of the CUDA plugin. */
export interface NativeCudaDevice {
  name: string
  computeMajor: number
  computeMinor: number
  multiprocessors: number
  memoryBytes: number
  availableBytes: number
  /** The kernels run on the host, for tests. */
  emulated: boolean
}

/** How a kernel of this module is run; all of it is required. */
export interface NativeRunOptions {
  /** `ref` is the scalar oracle. A CUDA device is one of the plugin in use. */
  backend: NativeBackendName
  /** In which a kernel gets its matrices, and of its products; results are float32 in either. */
  precision: 'float32' | 'bfloat16'
  /** Threads of a pool for this call alone; 0: the shared pool. */
  threads: number
  /**
   * How often to time it: the entries of `milliseconds` of the result. On a CUDA device each is the mean of 20 runs in a row. 0: it runs
   * once and is not timed.
   */
  timings: number
}

/** The stream that an attention mask belongs to. */
export interface NativeStreamSizes {
  textLength: number
  grid: number
  kernel: number
  /** 1 where not PAD; batch x textLength for the kernels, textLength for `attends`. Without it, all are valid. */
  textValid?: Uint8Array | undefined
}

/** The sizes of q, k, v: batch x heads x N x headSize, N = textLength + 1 + grid * grid. */
export interface NativeAttentionOptions extends NativeRunOptions, NativeStreamSizes {
  pattern: string
  direction: string
  batch: number
  heads: number
  headSize: number
  scale: number
}

/** c = gelu(alpha * op(a) . op(b) + bias) + residual, for each of `batch` matrices. */
export interface NativeMatmulOptions extends NativeRunOptions {
  m: number
  n: number
  k: number
  batch: number
  transA: boolean
  transB: boolean
  alpha: number
  gelu: boolean
  bias?: Float32Array | undefined
  residual?: Float32Array | undefined
}

/** What every kernel's result has. */
export interface NativeTimings {
  /** What was timed, without copies and conversions. */
  milliseconds: Float64Array
  /** The most memory that a run used at once beside arguments and results, in the allocator's sizes (up to a quarter above what was asked for). */
  workspaceBytes: number
}

/** What no kernel can exceed here: rates per second of loops that only multiply registers, or read memory. */
export interface NativeCeilings {
  /** Fused multiply-adds of float32, each counted as two. */
  float32Flops: number
  /** Products of bfloat16 pairs; 0 where the instruction set in use has no instruction for them. */
  bfloat16Flops: number
  readBytes: number
  /** The same over the whole measurement instead of the best slice. */
  sustainedReadBytes: number
}

/** The mean of some vectors of d numbers, and the sum of the outer products of their deviations from it. */
export interface NativeFeatureMoments {
  /** d */
  mean: Float64Array
  /** d x d, symmetric */
  scatter: Float64Array
}

/** A normal distribution of d numbers. */
export interface NativeGaussian {
  /** d */
  mean: Float64Array
  /** d x d */
  covariance: Float64Array
}

/** What the header of a safetensors file says of one tensor. */
export interface NativeTensorInfo {
  name: string
  dtype: string
  shape: number[]
  byteLength: number
}

/** A mapped safetensors file. */
export interface NativeSafetensorsFile extends NativeHandle {
  readonly tensors: NativeTensorInfo[]
  /** Key, value, key, value, ... */
  readonly metadata: string[]
  /** The tensor's bytes. */
  read(name: string, control?: TaskControl): Promise<Uint8Array>
  /** F32, BF16, F16 or F64 as float32. */
  readFloat32(name: string, control?: TaskControl): Promise<Float32Array>
}

/** The constructor of {@link NativeBinding.initialize}'s errors. */
export type NativeErrorClass = new (code: never, message: string, details?: Record<string, unknown>) => Error

/** The exports of the module. */
export interface NativeBinding extends NativeModels {
  /** The package version that the module was compiled for. */
  readonly version: string
  /**
   * Once per load: native errors are made by `new errorClass(code, message, details)` from then on, and promises whose flag was raised
   * reject with `stopped`.
   */
  initialize(errorClass: NativeErrorClass, stopped: object): void
  readonly StopFlag: new () => StopFlag

  backendInfo(): NativeBackendInfo
  /**
   * Loads the CUDA plugin of that file; `cuda:<n>` is one of its devices from then on. `libraries` is a JSON object. Throws the reason where
   * the plugin or the driver cannot be used.
   */
  usePlugin(path: string): { devices: NativeCudaDevice[]; libraries: string }
  /** 1 to 1024; for the whole process. */
  setThreads(threads: number): void
  /** One of `backendInfo().isas`; for the whole process. */
  setIsa(isa: string): void
  /** Bytes of the backend's memory that are in use, and the most since the last reset; the reset comes after the reading. */
  memoryUse(backend: NativeBackendName, resetPeak: boolean): { inUse: number; peak: number }
  /** Every code an error of the module can have. */
  errorCodes(): string[]

  sparseAttention(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    options: NativeAttentionOptions,
    control?: TaskControl,
  ): Promise<NativeTimings & { out: Float32Array; lse: Float32Array }>
  sparseAttentionBackward(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    out: Float32Array,
    lse: Float32Array,
    dout: Float32Array,
    options: NativeAttentionOptions,
    control?: TaskControl,
  ): Promise<NativeTimings & { dq: Float32Array; dk: Float32Array; dv: Float32Array }>
  attends(pattern: string, direction: string, query: number, key: number, sizes: NativeStreamSizes): boolean
  codebookLookup(
    vectors: Float32Array,
    codebook: Float32Array,
    options: NativeRunOptions & { rows: number; size: number; dim: number },
    control?: TaskControl,
  ): Promise<NativeTimings & { indices: Int32Array; distances: Float32Array }>
  matmul(
    a: Float32Array,
    b: Float32Array,
    options: NativeMatmulOptions,
    control?: TaskControl,
  ): Promise<NativeTimings & { out: Float32Array }>

  /** With `threads` as in {@link NativeRunOptions}; each of the three takes about `milliseconds`. */
  ceilings(options: { threads: number; milliseconds: number }, control?: TaskControl): Promise<NativeCeilings>
  /** Copies so many bytes from one place of the backend's memory to another. */
  copy(
    bytes: number,
    options: NativeRunOptions,
    control?: TaskControl,
  ): Promise<Pick<NativeTimings, 'milliseconds'>>

  /** Of vectors of `dimensions` numbers each, one after the other. */
  featureMoments(
    features: Float64Array,
    dimensions: number,
    control?: TaskControl,
  ): Promise<NativeFeatureMoments>
  /** Squared; never negative. */
  frechetDistance(a: NativeGaussian, b: NativeGaussian, control?: TaskControl): Promise<number>

  openSafetensors(path: string, control?: TaskControl): Promise<NativeSafetensorsFile>
  /** Atomic. `data` of any typed array: its bytes count. Metadata is key, value, key, value, ... */
  writeSafetensors(
    path: string,
    tensors: { name: string; dtype: string; shape: readonly number[]; data: ArrayBufferView }[],
    metadata: string[],
    control?: TaskControl,
  ): Promise<void>
  /** Atomic, too. */
  writeFile(path: string, data: ArrayBufferView, control?: TaskControl): Promise<void>
  /** The class of what openSafetensors gives; it cannot be constructed. */
  readonly SafetensorsFile: new () => never
}
