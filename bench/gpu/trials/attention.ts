import { kernels, type Pattern } from '../../../lib/kernels.ts'
import { type AttentionArrays, oneHead, referenceHead } from '../../attention-reference.ts'
import { expectError, Random, relativeError, roundToBfloat16 } from '../../data.ts'
import { attends } from '../../flops.ts'
import { kernelTimes } from '../kernel-times.ts'
import { attentionRow, PATTERNS } from '../rows.ts'
import type { GpuTrial } from '../trial.ts'

const direction = 'text-to-image'

/** Sparse attention by pattern, forward and backward, text to image. */
export const attention: GpuTrial = async ({ attention: sizes, samples }, { attempt }) => {
  const { heads, headSize, batches, ...stream } = sizes
  const length = stream.textLength + 1 + stream.grid ** 2
  const headElements = length * headSize
  for (const batch of batches) {
    const random = new Random(3)
    const arrays = Object.fromEntries(
      ['q', 'k', 'v', 'dout'].map((name) => [name, random.floats(batch * heads * headElements)]),
    ) as unknown as AttentionArrays
    const { q, k, v, dout } = arrays
    const last = batch * heads - 1
    const count = Math.ceil(samples.kernel / batch)

    for (const pattern of PATTERNS) {
      const expected = reference(oneHead(arrays, last, headElements), pattern)
      const check = (name: keyof typeof expected, actual: Float32Array, bound: number) => {
        const part = actual.subarray(last * headElements, (last + 1) * headElements)
        expectError(`${name} of ${pattern}`, relativeError(part, expected[name]), bound)
      }
      const options = { pattern, direction, batch, heads, headSize, ...stream } as const
      const onDevice = { ...options, device: 'cuda', precision: 'bfloat16' } as const
      let first: { out: Float32Array; lse: Float32Array } | undefined
      await attempt(attentionRow(pattern, 'forward', batch), async () => {
        const { times, result } = await kernelTimes(count, (timings) =>
          kernels.sparseAttention(q, k, v, { ...onDevice, timings }),
        )
        first = result
        // the weights of the values and the result are rounded to bfloat16, 2^-9 each
        check('out', result.out, 1e-2)
        return { times, clock: 'device' }
      })
      await attempt(attentionRow(pattern, 'backward', batch), async () => {
        if (!first) throw new Error('there is nothing to go back from: the forward pass failed')
        const { out, lse } = first
        const { times, result } = await kernelTimes(count, (timings) =>
          kernels.sparseAttentionBackward(q, k, v, out, lse, dout, { ...onDevice, timings }),
        )
        // the same, and the gradients of the scores, which are small differences
        for (const name of ['dq', 'dk', 'dv'] as const) check(name, result[name], 2e-2)
        return { times, clock: 'device', details: { workspaceBytes: result.workspaceBytes } }
      })
    }
  }

  function reference(head: AttentionArrays, pattern: Pattern) {
    const rounded = Object.fromEntries(
      Object.entries(head).map(([name, array]: [string, Float32Array]) => [name, array.map(roundToBfloat16)]),
    ) as unknown as AttentionArrays
    return referenceHead(rounded, { length, headSize }, (query, key) =>
      attends(pattern, direction, query, key, stream),
    )
  }
}
