import { kernels } from '../../../lib/kernels.ts'
import { Random } from '../../data.ts'
import { checkProduct } from '../../matmul-trial.ts'
import { kernelTimes } from '../kernel-times.ts'
import type { GpuTrial } from '../trial.ts'

/** What the device can move at most. */
export const copy: GpuTrial = ({ ceilings, samples }, { attempt }) =>
  attempt('copy', async () => {
    const { times } = await kernelTimes(samples.longKernel, (timings) =>
      kernels.copy(ceilings.copyBytes, { device: 'cuda', timings }),
    )
    return { times, clock: 'device' }
  })

/** What it can multiply at most: a large product, with sums in float32 as the result. */
export const matmul: GpuTrial = ({ ceilings: { matmulSide: side }, samples }, { attempt }) =>
  attempt('matmul', async () => {
    const random = new Random(1)
    const [a, b] = [random.floats(side ** 2), random.floats(side ** 2)]
    const options = { m: side, n: side, k: side, precision: 'bfloat16', device: 'cuda' } as const
    const { times, result } = await kernelTimes(samples.longKernel, (timings) =>
      kernels.matmul(a, b, { ...options, timings }),
    )
    checkProduct(result, a, b, side, 'bfloat16')
    return { times, clock: 'device' }
  })
