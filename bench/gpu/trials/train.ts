import { Generator } from '../../../lib/model/generator.ts'
import type { GeneratorBatch } from '../../../lib/trainer/generator-learner.ts'
import { Trainer } from '../../../lib/trainer/trainer.ts'
import { Random } from '../../data.ts'
import type { GpuTrial } from '../trial.ts'

const warmUp = 3

/** Steps of training on the same pairs: both directions, products in bfloat16, clipping and AdamW. */
export const train: GpuTrial = async ({ train: { config, pairs, learningRate }, samples }, { attempt }) => {
  const random = new Random(8)
  const { textLength, textVocab, imageVocab, grid } = config
  const batch: GeneratorBatch = {
    text: random.integers(pairs * textLength, textVocab),
    textValid: new Uint8Array(pairs * textLength).fill(1),
    image: random.integers(pairs * grid ** 2, imageVocab),
  }
  await attempt('train', async () => {
    await using generator = await Generator.create(config, { precision: 'float32', seed: 1, device: 'cuda' })
    await using trainer = new Trainer(generator, { precision: 'bfloat16', learningRate })
    const times: number[] = []
    const losses: number[] = []
    for await (const { seconds, loss } of trainer.fit(endless(batch), { steps: warmUp + samples.call })) {
      times.push(seconds * 1000)
      losses.push(loss)
    }
    const [first, last] = [losses[0]!, losses.at(-1)!]
    if (!(last < first))
      throw new Error(`Expected a loss below ${first}, that of the first step, found ${last}`)
    return { times: times.slice(warmUp), clock: 'wall', details: { firstLoss: first, lastLoss: last } }
  })
}

async function* endless<T>(item: T): AsyncGenerator<T> {
  for (;;) yield item
}
