import type { RgbImage } from '../../data/image.ts'
import type { ImageTextPair } from '../../data/pairs.ts'
import { ErnieVilg } from '../../model/ernie-vilg.ts'
import { modelFingerprint } from '../../model/fingerprint.ts'
import type { GeneratorConfig } from '../../model/generator-config.ts'
import { Generator } from '../../model/generator.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { Sampler } from '../../sampler/sampler.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { type RunSamples, trainRun } from '../run.ts'
import { Trainer } from '../trainer.ts'
import type { GeneratorStep } from '../training-loop.ts'
import { writeMeasurements } from './measurements.ts'
import { drawnAndDescribed } from './batches.ts'
import {
  dataOptions,
  disposeAll,
  type Finished,
  limits,
  paths,
  shownPictures,
  type StageContext,
  tokenPlace,
} from './stages.ts'

/** Trains the generator on captions and tokens. */
export async function trainGenerator(context: StageContext): Promise<Finished> {
  const { folder } = context
  const text = await TextTokenizer.load(paths(folder).vocabulary)
  const imageTokenizer = await ImageTokenizer.load(paths(folder).imageTokenizer, { precision: 'float32' })
  const models: { dispose(): Promise<void> }[] = [imageTokenizer]
  const shown = await context.data.shown(shownPictures / 2, imageTokenizer)
  const sample = (generator: Generator) => {
    const bundle = ErnieVilg.create({ generator, imageTokenizer, textTokenizer: text })
    models.push(bundle)
    return drawings(new Sampler(bundle), shown)
  }
  try {
    return await run(context, text, sample)
  } finally {
    await disposeAll(...models)
  }
}

async function run(
  context: StageContext,
  text: TextTokenizer,
  sample: (generator: Generator) => Promise<RunSamples>,
): Promise<Finished> {
  const { data, folder, config } = context
  const { batch, describedBatch, steps, evaluateEvery, sampleEvery, seed, nameShare } = config.generator
  const training =
    describedBatch === undefined ? config.generator.training : { ...config.generator.training, accumulate: 2 }
  const model = { ...config.generator.model, textVocab: text.vocabSize }
  const tokens = await data.openTokens(tokenPlace(context), { tokenizer: text, textLength: model.textLength })
  const batches = (start: number, state: unknown) => {
    if (describedBatch === undefined) return tokens.shuffled({ batch, seed, start, state, nameShare })
    const { drawn, described } = (state ?? {}) as { drawn?: unknown; described?: unknown }
    const common = { start: start / 2, nameShare } // a step takes one batch of each
    return drawnAndDescribed(
      tokens.shuffled({ ...common, batch, seed, state: drawn }),
      tokens.shuffled({ ...common, batch: describedBatch, seed: seed + 1, state: described }),
    )
  }
  const { trainer, finished, seconds, evaluation } = await trainRun<GeneratorStep, Trainer<GeneratorStep>>(
    paths(folder).generatorRun,
    {
      title: 'generator',
      // The key stands for the tokens: with another tokenizer, this run makes no sense.
      settings: {
        model,
        training,
        batch,
        ...(describedBatch === undefined ? {} : { describedBatch }),
        seed,
        nameShare,
        tokens: tokens.key,
        ...(await beginning(context)),
      },
      ...dataOptions(context, 'tokens'),
      steps,
      create: async () => new Trainer(await firstGenerator(context, model), training),
      resume: (path) => Trainer.resume(path),
      batches,
      ...(data.hasHeldOut ? { evaluate: (one) => one.evaluate(tokens.heldOut(batch)), evaluateEvery } : {}),
      sample: (one) => sample(one.target),
      sampleEvery,
      curves: { 'loss.png': ['loss', 'textToImage', 'imageToText'] },
      ...(await limits(context, 'generator', training)),
    },
  )
  try {
    if (!finished) return false
    await trainer.target.save(paths(folder).generator)
    await writeMeasurements(folder, {
      generator: { steps, batch, seconds, parameters: trainer.target.parameterCount, heldOut: evaluation },
    })
    return true
  } finally {
    await disposeAll(trainer, trainer.target)
  }
}

/** What a run that does not begin with fresh weights begins with, as JSON: it goes on with the same only. */
async function beginning({ fromGenerator }: StageContext): Promise<{ from?: string }> {
  return fromGenerator === undefined ? {} : { from: await modelFingerprint(fromGenerator) }
}

function firstGenerator({ fromGenerator, config }: StageContext, model: GeneratorConfig): Promise<Generator> {
  return fromGenerator === undefined
    ? Generator.create(model, { precision: 'float32', seed: config.generator.seed })
    : Generator.load(fromGenerator, { precision: 'float32' })
}

/** What the model draws for first captions, trained on and held out, and what it says of their pictures. */
async function drawings(sampler: Sampler, items: readonly ImageTextPair[]): Promise<RunSamples> {
  const images: RgbImage[] = []
  const captions: string[] = []
  const columns = shownPictures / 2
  for (let first = 0; first < items.length; first += columns) {
    const row = items.slice(first, first + columns)
    const said: string[] = []
    const drawn: RgbImage[] = []
    for (const pair of row) {
      const [description] = await sampler.imageToText(pair)
      said.push(description!.text)
      const [picture] = await sampler.textToImage(pair.captions[0]!, {
        seed: 1,
        temperature: 0.5,
        truncate: true,
      })
      drawn.push(picture!)
    }
    images.push(...row, ...drawn)
    captions.push(...said, ...row.map(({ captions: [name] }) => name!))
  }
  return { images, columns, captions }
}
