import { createRequire } from 'node:module'

/** What to do where onnxruntime-node is not installed. */
export const peersMissing = 'onnxruntime-node is not installed: npm ci --prefix bench/peers'

/** A tensor of onnxruntime-node. */
export interface OnnxTensor {
  readonly data: ArrayLike<number>
}

/** As much of onnxruntime-node as the benchmarks use: it is installed apart from the package, so its own types may not be there. */
interface OnnxRuntime {
  readonly Tensor: new (type: string, data: ArrayBufferView, shape: readonly number[]) => OnnxTensor
  readonly InferenceSession: {
    create(model: Uint8Array, options: Record<string, unknown>): Promise<OnnxSession>
  }
}
interface OnnxSession {
  run(inputs: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>
  release(): Promise<void>
}

/** onnxruntime-node of bench/peers with its version; undefined where it is not installed. */
export function onnxRuntime(): { runtime: OnnxRuntime; version: string } | undefined {
  const require = createRequire(import.meta.url)
  try {
    require.resolve('onnxruntime-node')
  } catch {
    return undefined
  }
  const { version } = require('onnxruntime-node/package.json') as { version: string }
  return { runtime: require('onnxruntime-node') as OnnxRuntime, version }
}

/** Opens a model with every optimisation that changes no result by more than rounding, on the CPU. */
export function openSession(runtime: OnnxRuntime, model: Uint8Array, threads: number): Promise<OnnxSession> {
  return runtime.InferenceSession.create(model, {
    executionProviders: ['cpu'],
    graphOptimizationLevel: 'all',
    executionMode: 'sequential',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  })
}
