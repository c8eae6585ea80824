import { Generator } from '../../../lib/model/generator.ts'
import { openImageSession } from '../../../lib/model/sessions.ts'
import { expectError, Random, timed } from '../../data.ts'
import { decodeRow } from '../rows.ts'
import type { GpuTrial } from '../trial.ts'

/** Drawing image tokens with a generator of fresh weights: the time of one token of all candidates, draw and all. */
export const decode: GpuTrial = async ({ decode: settings, samples }, { attempt, check }) => {
  const { config, candidates, warmUp, tokens } = settings
  const { textLength, textVocab, imageVocab, grid } = config
  const generator = await Generator.create(config, { precision: 'bfloat16', seed: 1, device: 'cuda' })
  const text = new Random(4).integers(textLength, textVocab)
  const textValid = new Uint8Array(textLength).fill(1)
  const draw = { seed: 5, temperature: 1, topK: 0, topP: 1 }

  for (const rows of candidates) {
    const session = openImageSession(generator, text, textValid, rows, 0, draw)
    try {
      await attempt(decodeRow(rows), async () => {
        await session.step(warmUp) // the text, the recording, and some replays of it
        const times: number[] = []
        for (let i = 0; i < samples.call; i++) times.push((await timed(() => session.step(tokens))) / tokens)
        return { times, clock: 'wall', details: { tokensPerSample: tokens, firstToken: warmUp } }
      })
      if (rows !== candidates.at(-1)) continue
      await check(`drawing ${rows} candidates is what the whole forward pass says`, async () => {
        const count = grid ** 2
        const result = await session.step(count)
        for (const row of [0, rows - 1]) {
          const image = result.tokens.slice(row * count, (row + 1) * count)
          const { loss } = await generator.forward({ text, textValid, image }, { direction: 'text-to-image' })
          const drawn = -result.logProbabilities[row]! / count
          // both multiply bfloat16, 2^-9 each; the mean over many tokens evens most of it out
          expectError(`the mean log-probability of candidate ${row}`, Math.abs(drawn / loss - 1), 2e-3)
          // fresh weights know nothing: the loss is near that of equal odds, from which a draw's mean strays
          expectError('the loss of fresh weights', Math.abs(loss / Math.log(imageVocab) - 1), 0.3)
        }
      })
    } finally {
      session.dispose()
    }
  }
  await generator.dispose()
}
