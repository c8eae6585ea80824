import { kernels } from '../../../lib/kernels.ts'
import { expectError, Random } from '../../data.ts'
import { kernelTimes } from '../kernel-times.ts'
import type { GpuTrial } from '../trial.ts'

/** The nearest code of many vectors. */
export const codebook: GpuTrial = async ({ codebook: { rows, size, dim }, samples }, { attempt }) => {
  const random = new Random(2)
  const vectors = random.floats(rows * dim)
  const codes = random.floats(size * dim)
  const distance = (row: number, code: number) => {
    let sum = 0
    for (let i = 0; i < dim; i++) sum += (vectors[row * dim + i]! - codes[code * dim + i]!) ** 2
    return sum
  }
  await attempt('codebook', async () => {
    const { times, result } = await kernelTimes(samples.longKernel, (timings) =>
      kernels.codebookLookup(vectors, codes, { size, dim, device: 'cuda', timings }),
    )
    for (let i = 0; i < 40; i++) {
      const row = i === 0 ? rows - 1 : random.integer(rows)
      let best = Infinity
      for (let code = 0; code < size; code++) best = Math.min(best, distance(row, code))
      // codes nearer to each other than float32 tells apart may change places
      expectError(`vector ${row}'s code`, distance(row, result.indices[row]!) / best - 1, 1e-5)
      expectError(`vector ${row}'s distance`, Math.abs(result.distances[row]! / best - 1), 1e-4)
    }
    return { times, clock: 'device' }
  })
}
