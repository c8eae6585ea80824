import { VilgError } from '../../errors.ts'
import { Matcher } from '../../model/matcher.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { outOfRange } from '../../validate.ts'
import type { PairBatch } from '../pair-batch.ts'
import { trainRun } from '../run.ts'
import { Trainer } from '../trainer.ts'
import type { MatcherStep } from '../training-loop.ts'
import { writeMeasurements } from './measurements.ts'
import {
  dataOptions,
  disposeAll,
  type Finished,
  limits,
  paths,
  type StageContext,
  tokenPlace,
} from './stages.ts'

/** Trains a matcher on captions and tokens, and calibrates it on the pairs that are held out. */
export async function trainMatcher(context: StageContext): Promise<Finished> {
  const { data, folder, config } = context
  if (config.matcher === undefined) throw outOfRange('config.matcher', 'the settings of a matcher', undefined)
  const { training, batch, steps, evaluateEvery, seed, nameShare } = config.matcher
  const text = await TextTokenizer.load(paths(folder).vocabulary)
  const model = { ...config.matcher.model, textVocab: text.vocabSize }
  const tokens = await data.openTokens(tokenPlace(context), { tokenizer: text, textLength: model.textLength })
  const { trainer, finished, seconds, evaluation } = await trainRun<MatcherStep, Trainer<MatcherStep>>(
    paths(folder).matcherRun,
    {
      title: 'matcher',
      // The key stands for the tokens: with another tokenizer, this run makes no sense.
      settings: { model, training, batch, seed, nameShare, tokens: tokens.key },
      ...dataOptions(context, 'tokens'),
      steps,
      create: async () => new Trainer(await Matcher.create(model, { precision: 'float32', seed }), training),
      resume: (path) => Trainer.resume(path),
      batches: (start, state) => tokens.shuffled({ batch, seed, start, state, nameShare }),
      ...(data.hasHeldOut ? { evaluate: (one) => one.evaluate(tokens.heldOut(batch)), evaluateEvery } : {}),
      curves: {
        'loss.png': ['loss'],
        'accuracy.png': ['imageToTextAccuracy', 'textToImageAccuracy'],
        'temperature.png': ['temperature'],
      },
      ...(await limits(context, 'matcher', training)),
    },
  )
  try {
    if (!finished) return false
    const matcher = trainer.target
    if (data.hasHeldOut) await calibrate(matcher, tokens.heldOut(mostCalibrating), context)
    await matcher.save(paths(folder).matcher)
    await writeMeasurements(folder, {
      matcher: { steps, batch, seconds, parameters: matcher.parameterCount, heldOut: evaluation },
    })
    return true
  } finally {
    await disposeAll(trainer, trainer.target)
  }
}

/** Enough for two numbers. */
const mostCalibrating = 512

async function calibrate(matcher: Matcher, heldOut: AsyncIterable<PairBatch>, context: StageContext) {
  for await (const batch of heldOut) {
    try {
      const { midpoint } = await matcher.calibrate(batch, { signal: context.signal })
      context.note(
        `matcher: pictures and texts above a cosine of ${midpoint.toFixed(3)} rather belong together`,
      )
    } catch (error) {
      // of so few steps that it knows nothing; it can still be looked at
      if (!(error instanceof VilgError) || error.code !== 'ERR_VILG_INVALID_ARGUMENT') throw error
      context.note(`matcher: not calibrated. ${error.message}`)
    }
    return
  }
}
