import { access } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import type { RgbImage } from '../../data/image.ts'
import { VilgError } from '../../errors.ts'
import { checkSignal } from '../../native/call.ts'
import { expectInteger, expectString, rejectUnknownKeys, typeMismatch } from '../../validate.ts'
import type { FeatureExtractor } from './feature-extractor.ts'
import { inceptionSide, writeInceptionInput } from './inception-input.ts'

/** What this library uses of ONNX Runtime's module. */
export interface OnnxRuntime {
  InferenceSession: { create(path: string, options?: object): Promise<OnnxSession> }
  Tensor: new (type: 'float32', data: Float32Array, dims: readonly number[]) => OnnxTensor
}
/** A loaded graph. */
export interface OnnxSession {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>
  release?(): Promise<void>
}
/** An input or an output of a graph. */
export interface OnnxTensor {
  readonly data: unknown
  readonly dims: readonly number[]
}

/** Options of {@link loadInception}. */
export interface InceptionOptions {
  /** ONNX Runtime's module; `onnxruntime-node` unless given. */
  runtime?: OnnxRuntime
  /** Threads of the graph; one a core unless given. */
  threads?: number
}

/** {@link loadInception}'s extractor. */
export interface Inception extends FeatureExtractor, AsyncDisposable {
  /** Gives the graph's memory back. */
  dispose(): Promise<void>
}

const peer = 'onnxruntime-node'

/**
 * Loads an Inception v3 network for FID from an ONNX file, by the optional package `onnxruntime-node`.
 *
 * The graph must have one input of N x 3 x 299 x 299 float32 numbers in [-1, 1], and give the features as its first output: N x d, or N x d x 1 x 1.
 * For the numbers that papers report, export pytorch-fid's `InceptionV3([3], resize_input=False, normalize_input=False)`, whose weights
 * are those of the original TensorFlow network (d = 2048); torchvision's own weights give other distances. Pictures are resized and scaled
 * here as pytorch-fid does. docs/metrics.md has the export.
 *
 * @throws ERR_VILG_IO; ERR_VILG_UNSUPPORTED where onnxruntime-node is not installed; ERR_VILG_CHECKPOINT_FORMAT for a file that is no such graph; ERR_VILG_INVALID_ARGUMENT
 */
export async function loadInception(path: string, options: InceptionOptions = {}): Promise<Inception> {
  expectString('path', path)
  rejectUnknownKeys('loadInception options', options, ['runtime', 'threads'])
  const threads = expectInteger('threads', options.threads ?? availableParallelism(), { min: 1, max: 1024 })
  await access(path).catch((cause: Error) => {
    throw new VilgError('ERR_VILG_IO', `Cannot read ${path}: ${cause.message}`, { path }, { cause })
  })
  const runtime = options.runtime === undefined ? await importRuntime() : checkRuntime(options.runtime)
  const session = await running(path, 'cannot be loaded', () =>
    runtime.InferenceSession.create(path, { intraOpNumThreads: threads, graphOptimizationLevel: 'all' }),
  )
  try {
    const compute = (input: Float32Array, count: number) => runGraph(path, runtime, session, input, count)
    // how long the vectors are, and whether the graph is one of pictures at all
    const features = await compute(new Float32Array(3 * inceptionSide ** 2), 1)
    return new OnnxInception(session, features.length, compute)
  } catch (error) {
    await session.release?.()
    throw error
  }
}

class OnnxInception implements Inception {
  readonly dimensions: number
  readonly #compute: (input: Float32Array, count: number) => Promise<Float32Array>
  #session: OnnxSession | undefined

  constructor(
    session: OnnxSession,
    dimensions: number,
    compute: (input: Float32Array, count: number) => Promise<Float32Array>,
  ) {
    this.#session = session
    this.dimensions = dimensions
    this.#compute = compute
  }

  async extract(
    images: readonly RgbImage[],
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<Float32Array> {
    checkSignal(signal)
    if (!this.#session) throw new VilgError('ERR_VILG_DISPOSED', 'The Inception network was disposed of')
    const size = 3 * inceptionSide ** 2
    const input = new Float32Array(images.length * size)
    images.forEach((image, i) => writeInceptionInput(image, input.subarray(i * size, (i + 1) * size)))
    signal?.throwIfAborted()
    return this.#compute(input, images.length)
  }

  async dispose(): Promise<void> {
    const session = this.#session
    this.#session = undefined
    await session?.release?.()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}

async function runGraph(
  path: string,
  { Tensor }: OnnxRuntime,
  session: OnnxSession,
  input: Float32Array,
  count: number,
): Promise<Float32Array> {
  const { inputNames, outputNames } = session
  const refuse = (found: string): VilgError =>
    new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `Expected a graph from pictures (N x 3 x ${inceptionSide} x ${inceptionSide}) to vectors (N x d) in ${path}, and ${found}`,
      { path },
    )
  if (inputNames.length !== 1) throw refuse(`it has ${inputNames.length} inputs`)
  const feeds = { [inputNames[0]!]: new Tensor('float32', input, [count, 3, inceptionSide, inceptionSide]) }
  const results = await running(
    path,
    `does not take ${count} x 3 x ${inceptionSide} x ${inceptionSide}`,
    () => session.run(feeds),
  )
  const output = results[outputNames[0]!]
  const [rows, length, ...rest] = output?.dims ?? []
  if (
    rows !== count ||
    !length ||
    rest.some((side) => side !== 1) ||
    !(output!.data instanceof Float32Array)
  ) {
    throw refuse(`its first output is ${output?.dims.join(' x ') ?? 'missing'}`)
  }
  return output!.data
}

/** What ONNX Runtime throws, as an error of ours. */
async function running<T>(path: string, what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `The ONNX graph ${path} ${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
      { path },
      { cause },
    )
  }
}

async function importRuntime(): Promise<OnnxRuntime> {
  // a variable, so that neither compilers nor bundlers ask for a package that need not be there
  const name: string = peer
  let loaded: Record<string, unknown>
  try {
    loaded = (await import(name)) as Record<string, unknown>
  } catch (cause) {
    throw new VilgError(
      'ERR_VILG_UNSUPPORTED',
      `Inception needs the optional package ${peer}, which cannot be loaded (${(cause as Error).message.split('\n')[0]}). Install it: npm install ${peer}`,
      { package: peer },
      { cause },
    )
  }
  return checkRuntime('InferenceSession' in loaded ? loaded : loaded['default'])
}

function checkRuntime(runtime: unknown): OnnxRuntime {
  const { InferenceSession, Tensor } = (runtime ?? {}) as Partial<OnnxRuntime>
  if (typeof InferenceSession?.create !== 'function' || typeof Tensor !== 'function') {
    throw typeMismatch('runtime', "ONNX Runtime's module", runtime)
  }
  return runtime as OnnxRuntime
}
