import { ImageTokenizer } from '../../../lib/model/image-tokenizer.ts'
import { expectError, Random, relativeError, timed } from '../../data.ts'
import { vqganRow } from '../rows.ts'
import type { GpuTrial } from '../trial.ts'

/** Pictures from their tokens, to arrays of JavaScript. */
export const vqgan: GpuTrial = async ({ vqgan: { config, images }, samples }, { attempt }) => {
  const onDevice = await ImageTokenizer.create(config, { seed: 1, precision: 'bfloat16', device: 'cuda' })
  const tokens = onDevice.grid ** 2
  const indices = new Random(6).integers(tokens * Math.max(...images), config.codebookSize)
  const onCpu = await ImageTokenizer.create(config, { seed: 1, precision: 'float32', device: 'cpu' })
  const expected = await onCpu.decode(indices.slice(0, tokens))
  await onCpu.dispose()

  for (const count of images) {
    const codes = indices.slice(0, count * tokens)
    await attempt(vqganRow(count), async () => {
      const pictures = await onDevice.decode(codes)
      // some 40 layers that each round inputs and weights to 2^-9
      expectError('the first picture', relativeError(pictures.subarray(0, expected.length), expected), 5e-2)
      const last = await onDevice.decode(codes.slice((count - 1) * tokens))
      const error = relativeError(pictures.subarray((count - 1) * expected.length), last)
      expectError('the last picture, to what it is alone,', error, 2e-2)
      const times: number[] = []
      const wanted = count === 1 ? 4 * samples.call : samples.call
      for (let i = 0; i < wanted; i++) times.push(await timed(() => onDevice.decode(codes)))
      return { times, clock: 'wall' }
    })
  }
  await onDevice.dispose()
}
