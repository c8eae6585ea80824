import { kernels } from '../../lib/kernels.ts'
import { expectError, Random } from '../data.ts'
import { matmulFlops } from '../flops.ts'
import type { Trial } from '../trial.ts'

const rows = 1024
const size = 8192
const dim = 256

/** PyTorch 1.13 took 70 ms for the same on 2 cores. */
const trial: Trial = {
  description: `The nearest of ${size} codes of ${dim} numbers for each of ${rows} vectors: one picture of 32 x 32 tokens.`,
  async setup() {
    const random = new Random(2)
    const vectors = random.floats(rows * dim)
    const codebook = random.floats(size * dim)
    const distance = (row: number, code: number) => {
      let sum = 0
      for (let i = 0; i < dim; i++) sum += (vectors[row * dim + i]! - codebook[code * dim + i]!) ** 2
      return sum
    }
    return {
      cases: [
        {
          name: 'nearest',
          title: `codebook lookup, ${rows} vectors, ${size} x ${dim}`,
          // the product of vectors and codes; |code|^2 is 1/1024 of it
          work: { flops: matmulFlops(rows, size, dim) },
          limit: 'float32Flops',
          target: { kind: 'milliseconds', atMost: 15 },
          async check() {
            const { indices, distances } = await kernels.codebookLookup(vectors, codebook, { size, dim })
            for (let row = 0; row < rows; row += 50) {
              let best = Infinity
              for (let code = 0; code < size; code++) best = Math.min(best, distance(row, code))
              // codes nearer to each other than float32 tells apart may change places
              expectError(`vector ${row}'s code`, distance(row, indices[row]!) / best - 1, 1e-5)
              expectError(`vector ${row}'s distance`, Math.abs(distances[row]! / best - 1), 1e-4)
            }
          },
          async run(repeats) {
            const timings = new Float64Array(repeats)
            await kernels.codebookLookup(vectors, codebook, { size, dim, timings })
            return [...timings]
          },
        },
      ],
    }
  },
}
export default trial
