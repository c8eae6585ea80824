import { Generator } from '../../lib/model/generator.ts'
import { gradientAccumulator } from '../../lib/trainer/trainer.ts'
import { expectError, timed } from '../data.ts'
import { generatorStepFlops } from '../flops.ts'
import { generatorConfig, randomPair } from '../small-generator.ts'
import type { Trial } from '../trial.ts'

const { layers, hidden } = generatorConfig

const trial: Trial = {
  description: `Forward and backward of one pair, text to image: ${layers} layers of ${hidden} in float32, against the peak of a loop of fused multiply-adds.`,
  async setup() {
    const generator = await Generator.create(generatorConfig, { precision: 'float32', seed: 1 })
    const batch = randomPair()
    const accumulator = gradientAccumulator(generator, {
      directionWeights: { textToImage: 1, imageToText: 0 },
      precision: 'float32',
    })
    return {
      async dispose() {
        accumulator.dispose()
        await generator.dispose()
      },
      cases: [
        {
          name: 'pair',
          title: `forward + backward, one pair, ${layers} x ${hidden}, float32`,
          work: { flops: generatorStepFlops(generatorConfig) },
          limit: 'float32Flops',
          samples: 10,
          target: { kind: 'share', atLeast: 0.55 },
          async check() {
            const { loss } = await generator.forward(batch, { direction: 'text-to-image' })
            const terms = await accumulator.accumulate(batch)
            expectError(`the loss ${loss}`, Math.abs(terms.textToImage / loss - 1), 1e-5)
            // fresh weights know nothing: the loss is near that of equal odds
            expectError(
              'the loss of fresh weights',
              Math.abs(loss / Math.log(generatorConfig.imageVocab) - 1),
              0.1,
            )
          },
          run: async () => [await timed(() => accumulator.accumulate(batch))],
        },
      ],
    }
  },
}
export default trial
