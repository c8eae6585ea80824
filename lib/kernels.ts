import type { NativeAttentionOptions, NativeRunOptions, NativeTimings } from '../types/native.d.ts'
import { VilgError } from './errors.ts'
import { native } from './native/binding.ts'
import { callNative, checkSignal } from './native/call.ts'
import { type Device, type Precision, resolveDevice, resolvePrecision } from './native/options.ts'
import {
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOneOf,
  expectTypedArray,
  outOfRange,
  rejectUnknownKeys,
} from './validate.ts'

/** The patterns of image attention, by layer. `full` is dense. */
export const PATTERNS = Object.freeze(['row', 'column', 'conv', 'full'] as const)
/** One of {@link PATTERNS}. */
export type Pattern = (typeof PATTERNS)[number]

/** The two directions of the transformer, which decide the order of the segments and the mask. */
export const DIRECTIONS = Object.freeze(['text-to-image', 'image-to-text'] as const)
/** One of {@link DIRECTIONS}. */
export type Direction = (typeof DIRECTIONS)[number]

/** How a kernel is run. */
export interface KernelOptions {
  /** Where; `auto` unless given. */
  device?: Device
  /**
   * On the CPU only. `cpu`: the fast kernels, and what is taken unless given. `ref`: the scalar ones in double precision that all others are
   * tested against, slow on purpose.
   */
  backend?: 'cpu' | 'ref'
  /** `bfloat16`: inputs are rounded to bfloat16, and so may products be; sums are float32. Results are float32 in either. */
  precision?: Precision
  /** Threads of a pool for this call alone, 1 to 1024; the shared pool unless given. */
  threads?: number
  /**
   * The kernel runs once for each entry, which gets the milliseconds of that run, without copies and conversions. On a CUDA device it runs
   * 20 times in a row for each entry, which gets their mean, by the device's clock; what starts and ends a measurement would count as
   * much as a small kernel otherwise. Inputs and results stay where they are, so what fits the device's cache is measured there.
   */
  timings?: Float64Array
  /** Ends the work between runs, and within the long kernels. */
  signal?: AbortSignal
}

/** The sizes of a stream, of N = textLength + 1 + grid * grid tokens. */
export interface StreamSizes {
  /** Text tokens with CLS, SEP and PAD. */
  textLength: number
  /** Image tokens a side. */
  grid: number
  /** The side of the convolutional window, odd. */
  kernel: number
}

/** What {@link kernels.sparseAttention} takes beside q, k and v, which are batch x heads x N x headSize. */
export interface SparseAttentionOptions extends KernelOptions, StreamSizes {
  pattern: Pattern
  direction: Direction
  /** batch x textLength, 1 where not PAD; all valid unless given. */
  textValid?: Uint8Array
  /** What `textValid` says, or 1, unless given. */
  batch?: number
  /** What the length of q says, unless given. */
  heads?: number
  /** What the length of q and `heads` say, or 64, unless given. */
  headSize?: number
  /** Scores are multiplied by it; 1 / sqrt(headSize) unless given. */
  scale?: number
}

/** What {@link kernels.codebookLookup} takes beside the vectors. */
export interface CodebookLookupOptions extends Omit<KernelOptions, 'precision'> {
  /** Entries of the codebook. */
  size: number
  /** Numbers in a vector. */
  dim: number
}

/** What {@link kernels.copy} takes beside the number of bytes. */
export type CopyOptions = Omit<KernelOptions, 'precision' | 'threads'>

/** What {@link kernels.matmul} takes beside the matrices: c = gelu(alpha * op(a) . op(b) + bias) + residual. */
export interface MatmulOptions extends KernelOptions {
  /** Rows of op(a) and c. */
  m: number
  /** Columns of op(b) and c. */
  n: number
  /** Columns of op(a), rows of op(b). */
  k: number
  /** How many matrices lie one after the other; 1 unless given. */
  batch?: number
  /** a is stored k x m; false unless given. */
  transA?: boolean
  /** b is stored n x k, as the weights of linear layers are; false unless given. */
  transB?: boolean
  /** 1 unless given. */
  alpha?: number
  /** n numbers, added to every row. */
  bias?: Float32Array
  /** The tanh form of GELU after the bias; false unless given. */
  gelu?: boolean
  /** batch x m x n, added last. */
  residual?: Float32Array
}

const maxDim = 2 ** 31 - 1
const runKeys = ['device', 'backend', 'precision', 'threads', 'timings', 'signal'] as const
const sizeKeys = ['textLength', 'grid', 'kernel'] as const
const attentionKeys = [
  ...runKeys,
  ...sizeKeys,
  'pattern',
  'direction',
  'textValid',
  'batch',
  'heads',
  'headSize',
  'scale',
] as const satisfies (keyof SparseAttentionOptions)[]
const codebookKeys = [
  ...runKeys.filter((key) => key !== 'precision'),
  'size',
  'dim',
] as const satisfies (keyof CodebookLookupOptions)[]
const copyKeys = runKeys.filter((key) => key !== 'precision' && key !== 'threads')
const matmulKeys = [
  ...runKeys,
  'm',
  'n',
  'k',
  'batch',
  'transA',
  'transB',
  'alpha',
  'bias',
  'gelu',
  'residual',
] as const satisfies (keyof MatmulOptions)[]

/**
 * The kernels by themselves, for measurements and tests. Inputs are copied before a call returns; results are new arrays, row-major.
 *
 * Errors of all: `TypeError` and `RangeError` with `ERR_VILG_INVALID_ARGUMENT` or `ERR_VILG_SHAPE_MISMATCH` for bad arguments (as a rejection
 * where a promise is returned), `ERR_VILG_UNSUPPORTED` for a device or precision that is not there, `ERR_VILG_OUT_OF_MEMORY`.
 */
export const kernels = Object.freeze({
  /**
   * Fused sparse attention over one stream: softmax(scale * q . k over the keys that {@link kernels.attends} allows) . v, in memory that
   * grows with N, not its square.
   *
   * @param q queries, batch x heads x N x headSize; `k` (keys) and `v` (values) alike
   * @returns `out`, shaped like q, and `lse`, batch x heads x N: the logarithm of the sum of exp(scale * scores); `workspaceBytes`: the most
   *   memory that the kernel used beside them
   */
  async sparseAttention(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    options: SparseAttentionOptions,
  ): Promise<{ out: Float32Array; lse: Float32Array; workspaceBytes: number }> {
    const sizes = attentionOptions(q, options)
    expectTypedArray('k', k, Float32Array, q.length)
    expectTypedArray('v', v, Float32Array, q.length)
    const { out, lse, workspaceBytes } = await timed(options, (control) =>
      native().sparseAttention(q, k, v, sizes, control),
    )
    return { out, lse, workspaceBytes }
  },

  /**
   * The gradients of {@link kernels.sparseAttention}, with the same options.
   *
   * @param out what the forward pass gave, and `lse` of it
   * @param dout the gradient of `out`
   * @returns the gradients of q, k and v; `workspaceBytes`: the most memory that the kernel used beside them
   */
  async sparseAttentionBackward(
    q: Float32Array,
    k: Float32Array,
    v: Float32Array,
    out: Float32Array,
    lse: Float32Array,
    dout: Float32Array,
    options: SparseAttentionOptions,
  ): Promise<{ dq: Float32Array; dk: Float32Array; dv: Float32Array; workspaceBytes: number }> {
    const sizes = attentionOptions(q, options)
    for (const [name, array] of Object.entries({ k, v, out, dout }))
      expectTypedArray(name, array, Float32Array, q.length)
    expectTypedArray('lse', lse, Float32Array, q.length / sizes.headSize)
    const { dq, dk, dv, workspaceBytes } = await timed(options, (control) =>
      native().sparseAttentionBackward(q, k, v, out, lse, dout, sizes, control),
    )
    return { dq, dk, dv, workspaceBytes }
  },

  /**
   * Whether the token at position `query` of the stream sees the one at position `key`: the predicate that all attention kernels share.
   * Positions count from 0. With `textValid` (one sample's), nobody sees PAD, and a PAD query sees only itself.
   */
  attends(
    pattern: Pattern,
    direction: Direction,
    query: number,
    key: number,
    sizes: StreamSizes & { textValid?: Uint8Array },
  ): boolean {
    expectOneOf('pattern', pattern, PATTERNS)
    expectOneOf('direction', direction, DIRECTIONS)
    const stream = streamSizes(sizes, 'sizes', [...sizeKeys, 'textValid'])
    const last = stream.textLength + stream.grid * stream.grid
    expectInteger('query', query, { min: 0, max: last })
    expectInteger('key', key, { min: 0, max: last })
    const { textValid } = sizes
    if (textValid !== undefined) expectTextValid(textValid, stream.textLength)
    return native().attends(pattern, direction, query, key, { ...stream, textValid })
  },

  /**
   * The nearest codebook entry of each vector, by Euclidean distance, the lowest index on a tie.
   *
   * @param vectors any number of vectors of `dim` numbers, none included
   * @param codebook size x dim
   * @returns the entries' indices and the squared distances
   */
  async codebookLookup(
    vectors: Float32Array,
    codebook: Float32Array,
    options: CodebookLookupOptions,
  ): Promise<{ indices: Int32Array; distances: Float32Array }> {
    const run = runOptions(options, codebookKeys)
    const size = expectInteger('size', options.size, { min: 1, max: maxDim })
    const dim = expectInteger('dim', options.dim, { min: 1, max: maxDim })
    expectTypedArray('vectors', vectors, Float32Array)
    expectTypedArray('codebook', codebook, Float32Array, size * dim)
    if (vectors.length % dim !== 0) {
      throw outOfRange(
        'vectors',
        `Float32Array of a multiple of ${dim} numbers`,
        vectors,
        'ERR_VILG_SHAPE_MISMATCH',
      )
    }
    const rows = vectors.length / dim
    const { indices, distances } = await timed(options, (control) =>
      native().codebookLookup(vectors, codebook, { ...run, rows, size, dim }, control),
    )
    return { indices, distances }
  },

  /**
   * Matrix product with the epilogues of linear layers: gelu(alpha * op(a) . op(b) + bias) + residual.
   *
   * @param a batch x m x k (k x m with `transA`)
   * @param b batch x k x n (n x k with `transB`)
   * @returns batch x m x n
   */
  async matmul(a: Float32Array, b: Float32Array, options: MatmulOptions): Promise<Float32Array> {
    const run = runOptions(options, matmulKeys)
    const dims = { min: 1, max: maxDim }
    const m = expectInteger('m', options.m, dims)
    const n = expectInteger('n', options.n, dims)
    const k = expectInteger('k', options.k, dims)
    const batch = expectInteger('batch', options.batch ?? 1, dims)
    expectTypedArray('a', a, Float32Array, batch * m * k)
    expectTypedArray('b', b, Float32Array, batch * k * n)
    const { bias, residual } = options
    if (bias !== undefined) expectTypedArray('bias', bias, Float32Array, n)
    if (residual !== undefined) expectTypedArray('residual', residual, Float32Array, batch * m * n)
    const all = {
      ...run,
      m,
      n,
      k,
      batch,
      transA: expectBoolean('transA', options.transA ?? false),
      transB: expectBoolean('transB', options.transB ?? false),
      alpha: expectNumber('alpha', options.alpha ?? 1),
      gelu: expectBoolean('gelu', options.gelu ?? false),
      bias,
      residual,
    }
    const { out } = await timed(options, (control) => native().matmul(a, b, all, control))
    return out
  },

  /**
   * Copies memory of the device to another place in it, and takes twice `bytes` for that: with `timings`, what other kernels can be held
   * against that do little but read and write (twice `bytes` in that time). On the CPU one thread copies.
   *
   * @param bytes 1 to 2^40
   * @throws `ERR_VILG_INTERNAL` where the copy is not what it was made from
   */
  async copy(bytes: number, options: CopyOptions = {}): Promise<void> {
    expectInteger('bytes', bytes, { min: 1, max: 2 ** 40 })
    const run = runOptions(options, copyKeys)
    await timed(options, (control) => native().copy(bytes, run, control))
  },
})

function runOptions(options: KernelOptions, keys: readonly string[]): NativeRunOptions {
  rejectUnknownKeys('options', options ?? null, keys)
  const { device, backend, precision, threads, timings, signal } = options
  const onCpu = backend === undefined ? undefined : expectOneOf('backend', backend, ['cpu', 'ref'])
  const onDevice = resolveDevice('device', onCpu === undefined ? device : (device ?? 'cpu'))
  if (onCpu !== undefined && onDevice !== 'cpu') {
    throw outOfRange('backend', `none together with the device ${onDevice}`, backend)
  }
  if (timings !== undefined) {
    expectTypedArray('timings', timings, Float64Array)
    if (timings.length < 1) throw outOfRange('timings', 'Float64Array of at least one entry', timings)
  }
  checkSignal(signal)
  return {
    backend: onCpu ?? onDevice,
    precision: resolvePrecision('precision', precision),
    threads: threads === undefined ? 0 : expectInteger('threads', threads, { min: 1, max: 1024 }),
    timings: timings === undefined ? 0 : expectInteger('the length of timings', timings.length, { max: 1e6 }),
  }
}

async function timed<T extends Pick<NativeTimings, 'milliseconds'>>(
  { signal, timings }: KernelOptions,
  start: Parameters<typeof callNative<T>>[1],
): Promise<T> {
  const result = await callNative<T>({ signal }, start)
  // the caller may have transferred it meanwhile
  if (timings && timings.length === result.milliseconds.length) timings.set(result.milliseconds)
  return result
}

function streamSizes(options: StreamSizes, name: string, keys: readonly string[]): StreamSizes {
  rejectUnknownKeys(name, options ?? null, keys)
  const sizes = {
    textLength: expectInteger('textLength', options.textLength, { min: 1, max: 2 ** 20 }),
    grid: expectInteger('grid', options.grid, { min: 1, max: 2 ** 12 }),
    kernel: expectInteger('kernel', options.kernel, { min: 1, max: 2 ** 13 }),
  }
  if (sizes.kernel % 2 === 0) throw outOfRange('kernel', 'an odd integer', sizes.kernel)
  return sizes
}

function expectTextValid(textValid: Uint8Array, length: number | undefined): void {
  expectTypedArray('textValid', textValid, Uint8Array, length)
  const bad = textValid.findIndex((value) => value > 1)
  if (bad >= 0) throw outOfRange(`textValid[${bad}]`, '0 or 1', textValid[bad])
}

function attentionOptions(
  q: Float32Array,
  options: SparseAttentionOptions,
): NativeAttentionOptions & { headSize: number } {
  const run = runOptions(options, attentionKeys)
  const pattern = expectOneOf('pattern', options.pattern, PATTERNS)
  const direction = expectOneOf('direction', options.direction, DIRECTIONS)
  const stream = streamSizes(options, 'options', attentionKeys)
  const { textValid } = options
  if (textValid !== undefined) expectTextValid(textValid, undefined)
  const dims = { min: 1, max: maxDim }
  const batch = expectInteger(
    'batch',
    options.batch ?? (textValid ? textValid.length / stream.textLength : 1),
    dims,
  )
  if (textValid) expectTypedArray('textValid', textValid, Uint8Array, batch * stream.textLength)
  const tokens = stream.textLength + 1 + stream.grid * stream.grid
  expectTypedArray('q', q, Float32Array)
  const channels = q.length / (batch * tokens) // heads * headSize
  let { heads, headSize } = options
  if (heads !== undefined) expectInteger('heads', heads, dims)
  if (headSize !== undefined) expectInteger('headSize', headSize, dims)
  headSize ??= heads === undefined ? 64 : channels / heads
  heads ??= channels / headSize
  if (!Number.isInteger(heads) || !Number.isInteger(headSize) || heads < 1 || heads * headSize !== channels) {
    throw new VilgError(
      'ERR_VILG_SHAPE_MISMATCH',
      `Expected q of batch x heads x N x headSize = ${batch} x heads x ${tokens} x headSize numbers` +
        ` (heads ${options.heads ?? 'not given'}, headSize ${options.headSize ?? (options.heads === undefined ? '64 since not given' : 'not given')}),` +
        ` received ${q.length}`,
      { argument: 'q', batch, tokens },
    )
  }
  const scale = expectNumber('scale', options.scale ?? 1 / Math.sqrt(headSize))
  return { ...run, ...stream, pattern, direction, textValid, batch, heads, headSize, scale }
}
