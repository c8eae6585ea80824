import { measureCeilings } from '../../lib/ceilings.ts'
import { Generator } from '../../lib/model/generator.ts'
import { openImageSession } from '../../lib/model/sessions.ts'
import { expectError, timed } from '../data.ts'
import { drawTokenBytes } from '../flops.ts'
import { generatorConfig, randomPair } from '../small-generator.ts'
import type { Case, Trial } from '../trial.ts'

const count = generatorConfig.grid ** 2
const candidates = 8

const trial: Trial = {
  description: `Drawing the ${count} image tokens of a picture, text of ${generatorConfig.textLength} tokens included: ${generatorConfig.layers} layers of ${generatorConfig.hidden} in bfloat16; one candidate against the bandwidth that reading the weights once a token takes, ${candidates} against one.`,
  async setup() {
    const generator = await Generator.create(generatorConfig, { precision: 'bfloat16', seed: 1 })
    const { text, textValid } = randomPair()

    async function draw(rows: number) {
      const settings = { seed: 5, temperature: 1, topK: 0, topP: 1 }
      const session = openImageSession(generator, text, textValid, rows, 0, settings)
      try {
        // as the sampler does: a row of the picture a step
        for (;;) {
          const result = await session.step(generatorConfig.grid)
          if (result.position === count) return result
        }
      } finally {
        session.dispose()
      }
    }

    const times = async (rows: number) => [await timed(() => draw(rows))]
    const makeCase = (rows: number): Pick<Case, 'check' | 'run' | 'samples'> => ({
      samples: 5,
      run: () => times(rows),
      async check() {
        // cached decoding against the whole forward pass over what it drew
        const { tokens, logProbabilities } = await draw(rows)
        for (const row of rows === 1 ? [0] : [0, rows - 1]) {
          const image = tokens.slice(row * count, (row + 1) * count)
          const { loss } = await generator.forward(randomPair(image), { direction: 'text-to-image' })
          const drawn = -logProbabilities[row]! / count
          // both multiply bfloat16, 2^-9 each; the mean over 1024 tokens evens most of it out
          expectError(
            `the mean log-probability of candidate ${row}, ${loss}`,
            Math.abs(drawn / loss - 1),
            1e-3,
          )
        }
      },
    })
    const bytes = count * drawTokenBytes(generatorConfig)
    return {
      dispose: () => generator.dispose(),
      cases: [
        {
          name: 'one',
          title: `draw ${count} tokens, ${generatorConfig.layers} x ${generatorConfig.hidden}, bfloat16, 1 candidate`,
          work: { bytes },
          limit: 'readBytes',
          peer: {
            name: 'only reading those bytes',
            // between the drawings, because the bandwidth of a shared machine changes within seconds
            run: async () => [
              (bytes / (await measureCeilings({ milliseconds: 500 })).sustainedReadBytes) * 1000,
            ],
          },
          target: { kind: 'speedup', atLeast: 0.6 },
          ...makeCase(1),
        },
        {
          name: 'eight',
          title: `the same, ${candidates} candidates of one prompt`,
          work: { bytes },
          limit: 'readBytes',
          peer: { name: '1 candidate', run: () => times(1) },
          target: { kind: 'factor', atMost: 2 },
          ...makeCase(candidates),
        },
      ],
    }
  },
}
export default trial
