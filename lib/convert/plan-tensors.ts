import {
  type StreamedTensor,
  streamedTensor,
  type StreamSafetensorsOptions,
} from '../checkpoint/stream-safetensors.ts'
import { dtypeSize } from '../checkpoint/tensor-dtypes.ts'
import type { TensorSource } from '../checkpoint/tensor-source.ts'
import type { ConversionPlan, TensorRows } from './family.ts'

type Pieces = (signal?: StreamSafetensorsOptions['signal']) => AsyncIterable<Uint8Array>

/** The tensors of a plan, to be written piece by piece. F64 has no place in a model; all other floats stay as they are. */
export function planTensors(source: TensorSource, plan: ConversionPlan): StreamedTensor[] {
  return [...plan.tensors].map(([name, origin]) =>
    typeof origin === 'string' ? whole(source, name, origin) : rowsTogether(source, name, origin),
  )
}

/** The names in the checkpoint that a plan uses. */
export function usedNames(plan: ConversionPlan): Set<string> {
  const used = [...plan.tensors.values()].flatMap((origin) =>
    typeof origin === 'string' ? [origin] : origin.map(({ name }) => name),
  )
  return new Set(used)
}

function whole(source: TensorSource, name: string, stored: string): StreamedTensor {
  const dtype = source.tensors.get(stored)!.dtype === 'F64' ? 'float32' : 'keep'
  return streamedTensor(source, stored, { name, dtype })
}

function rowsTogether(source: TensorSource, name: string, parts: readonly TensorRows[]): StreamedTensor {
  const dtypes = new Set(parts.map((part) => source.tensors.get(part.name)!.dtype))
  const dtype = dtypes.size > 1 || dtypes.has('F64') ? 'float32' : 'keep'
  const tensors = parts.map((part) => streamedTensor(source, part.name, { dtype }))
  const [first] = tensors
  const rows = parts.reduce((sum, part) => sum + part.end - part.first, 0)
  return {
    name,
    dtype: first!.dtype,
    shape: [rows, ...first!.shape.slice(1)],
    async *pieces(signal) {
      for (const [i, { first, end }] of parts.entries()) {
        const { shape, dtype, pieces } = tensors[i]!
        const rowBytes = shape.slice(1).reduce((product, dim) => product * dim, dtypeSize(dtype))
        yield* bytesBetween(pieces, first * rowBytes, end * rowBytes, signal)
      }
    },
  }
}

/** Those of the bytes from `begin` up to and without `end`. */
async function* bytesBetween(
  pieces: Pieces,
  begin: number,
  end: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  let at = 0
  for await (const piece of pieces(signal)) {
    const part = piece.subarray(Math.max(begin - at, 0), Math.max(end - at, 0))
    if (part.length > 0) yield part
    at += piece.length
    if (at >= end) return
  }
}
