import { type Direction, DIRECTIONS, kernels, type Pattern } from '../../lib/kernels.ts'
import { oneHead, referenceHead } from '../attention-reference.ts'
import { expectError, Random, relativeError } from '../data.ts'
import { attends, attentionFlops, attentionPairs } from '../flops.ts'
import type { Case, Trial } from '../trial.ts'

const heads = 64
const headSize = 64
const sizes = { textLength: 127, grid: 32, kernel: 11 }
const length = sizes.textLength + 1 + sizes.grid ** 2
const elements = heads * length * headSize

const trial: Trial = {
  description: `Attention of ${heads} heads of ${headSize} over ${length} tokens, forward and backward in float32, by direction and pattern, against our own full attention of the same direction.`,
  async setup() {
    const random = new Random(3)
    const [q, k, v, dout] = [0, 1, 2, 3].map(() => random.floats(elements)) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ]
    const workspace = new Map<string, number>()

    async function both(pattern: Pattern, direction: Direction, repeats: number) {
      const [forward, backward] = [new Float64Array(repeats), new Float64Array(repeats)]
      const options = { pattern, direction, heads, headSize, ...sizes } as const
      const first = await kernels.sparseAttention(q, k, v, { ...options, timings: forward })
      const second = await kernels.sparseAttentionBackward(q, k, v, first.out, first.lse, dout, {
        ...options,
        timings: backward,
      })
      workspace.set(`${pattern} ${direction}`, Math.max(first.workspaceBytes, second.workspaceBytes))
      return { ...first, ...second, times: [...forward].map((time, i) => time + backward[i]!) }
    }

    const makeCase = (pattern: Pattern, direction: Direction): Case => {
      const name = `${pattern} ${direction}`
      const pairs = attentionPairs(pattern, direction, sizes)
      const fullPairs = attentionPairs('full', direction, sizes)
      const flops = attentionFlops(pairs, heads * headSize)
      return {
        name,
        title: `${pattern} attention, ${direction.replaceAll('-', ' ')}, ${heads} heads of ${headSize}, N = ${length}, forward + backward`,
        work: { flops: flops.forward + flops.backward },
        limit: 'float32Flops',
        samples: 10,
        peer: {
          name: 'our full attention',
          workRatio: fullPairs / pairs,
          run: async (repeats) => (await both('full', direction, repeats)).times,
        },
        target: { kind: 'speedup', atLeast: 4 },
        async check() {
          const { out, dq, dk, dv } = await both(pattern, direction, 1)
          const head = heads - 1
          const inputs = oneHead({ q, k, v, dout }, head, length * headSize)
          const expected = referenceHead(inputs, { length, headSize }, (query, key) =>
            attends(pattern, direction, query, key, sizes),
          )
          for (const [array, actual] of Object.entries({ out, dq, dk, dv })) {
            const begin = head * length * headSize
            const part = actual.subarray(begin, begin + length * headSize)
            // float32 sums of up to N terms: sqrt(1152) * 2^-24 = 2e-6, times a few for products of products
            expectError(`${array} of ${name}`, relativeError(part, expected[array as 'out']), 2e-5)
          }
        },
        async run(repeats) {
          return (await both(pattern, direction, repeats)).times
        },
        details: () => ({
          workspaceBytes: workspace.get(name)!,
          // what the scores alone would take if they were kept
          squareBytes: heads * length * length * 4,
          pairs,
          fullPairs,
        }),
      }
    }
    return {
      cases: DIRECTIONS.flatMap((direction) =>
        (['row', 'column', 'conv'] as const).map((pattern) => makeCase(pattern, direction)),
      ),
    }
  },
}
export default trial
