import { join } from 'node:path'
import { type RgbImage, pixelsToTensor, tensorToPixels } from '../../data/image.ts'
import type { ImageTextPair } from '../../data/pairs.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { trainWordPiece } from '../../tokenizer/train-word-piece.ts'
import { readTextIfThere, writeTextAtomically } from '../../tokenizer/vocabulary-file.ts'
import type { ProgressStream } from '../progress.ts'
import type { TrainerOptions } from '../options.ts'
import type { LogLine } from '../run-log.ts'
import { trainRun, type RunSamples } from '../run.ts'
import { Trainer } from '../trainer.ts'
import type { ImageTokenizerStep } from '../training-loop.ts'
import type { BundleTrainingConfig } from './config.ts'
import { writeMeasurements } from './measurements.ts'
import { peakFlops } from './peak-flops.ts'
import type { DataPart, TokenPlace, TrainingData } from './training-data.ts'

/** What all stages share. */
export interface StageContext {
  config: BundleTrainingConfig
  /** The run folder. */
  folder: string
  data: TrainingData
  /** Go on with other data than the run was begun with. */
  changeData?: boolean
  /** Texts beside the captions that the model is to read or write, such as questions: the vocabulary has all their characters. */
  otherTexts?: readonly string[]
  /** The folder of the generator that training begins with; none: fresh weights. */
  fromGenerator?: string | undefined
  /** Minutes that are left; undefined: no limit. */
  minutesLeft(): number | undefined
  signal: AbortSignal
  /** Told what a stage did. */
  note(text: string): void
  /** Given the lines of the logs as they are written. */
  onLog?: (stage: string, line: LogLine) => void
  /** As in {@link RunOptions}. */
  progress?: ProgressStream | false
}

/** Whether a stage is finished; false where time ran out. */
export type Finished = boolean

const evaluationBatch = 32
/** Pictures on a sheet of samples. */
export const shownPictures = 16

/** Where the stages leave what the next ones need. */
export const paths = (folder: string) => ({
  vocabulary: join(folder, 'text'),
  vocabularyKey: join(folder, 'text-made-from.json'),
  imageTokenizerRun: join(folder, 'image-tokenizer'),
  imageTokenizer: join(folder, 'image-tokenizer', 'model'),
  generatorRun: join(folder, 'generator'),
  generator: join(folder, 'generator', 'model'),
  answersRun: join(folder, 'answers'),
  answers: join(folder, 'answers', 'model'),
  matcherRun: join(folder, 'matcher'),
  matcher: join(folder, 'matcher', 'model'),
})

/** Makes the text vocabulary from the captions that are trained on, and from all characters of the others. */
export async function makeVocabulary({
  config,
  folder,
  data,
  changeData = false,
  otherTexts = [],
  note,
  signal,
}: StageContext): Promise<Finished> {
  const { vocabulary, vocabularyKey } = paths(folder)
  const known = await readTextIfThere(vocabularyKey)
  const otherCharacters = charactersOf(otherTexts)
  const others = otherTexts.length === 0 ? {} : { otherCharacters }
  const key = `${JSON.stringify({ ...config.text, data: data.settings, ...others })}\n`
  if (known !== undefined && (changeData || known === key)) {
    note(known === key ? 'vocabulary: it is there' : 'vocabulary: stays that of the data before')
    return true
  }
  const corpus = await captionsOf(data, 'train', signal)
  // Characters of held-out captions get tokens, though nobody can learn them if no other caption has them.
  const heldOut = charactersOf(await captionsOf(data, 'held-out', signal))
  const tokens = trainWordPiece([...corpus, ...heldOut, ...otherCharacters], {
    size: config.text.vocabularySize,
  })
  const tokenizer = TextTokenizer.fromVocabulary(tokens)
  await tokenizer.save(vocabulary)
  let longest = 0
  let cut = 0
  for (const caption of corpus) {
    const { length } = tokenizer.encode(caption).ids
    longest = Math.max(longest, length)
    if (length > config.generator.model.textLength) cut++
  }
  const tooLong = cut === 0 ? '' : `; ${cut} are cut at ${config.generator.model.textLength}`
  note(
    `vocabulary: ${tokens.length} tokens from ${corpus.length} captions, of ${longest} tokens at most${tooLong}`,
  )
  await writeTextAtomically(vocabularyKey, key)
  return true
}

/** Each once, in the order of its first use. */
function charactersOf(texts: readonly string[]): string[] {
  return [...new Set(texts.join(''))]
}

async function captionsOf(data: TrainingData, part: DataPart, signal: AbortSignal): Promise<string[]> {
  const all: string[] = []
  for await (const captions of data.captions(part)) {
    signal.throwIfAborted()
    all.push(...captions)
  }
  return all
}

/** Trains the image tokenizer. */
export async function trainImageTokenizer(context: StageContext): Promise<Finished> {
  const { data, folder } = context
  const { model, training, batch, steps, evaluateEvery, seed } = context.config.imageTokenizer
  const shown = await data.shown(shownPictures / 2)
  const { trainer, finished, seconds, evaluation } = await trainRun<
    ImageTokenizerStep,
    Trainer<ImageTokenizerStep>
  >(paths(folder).imageTokenizerRun, {
    title: 'image tokenizer',
    settings: { model, training, batch, seed, data: data.settings },
    ...dataOptions(context, 'data'),
    steps,
    create: async () =>
      new Trainer(await ImageTokenizer.create(model, { precision: 'float32', seed }), training),
    resume: (path) => Trainer.resume(path),
    batches: (start, state) => data.imageBatches({ batch, seed, start, state }),
    ...(data.hasHeldOut
      ? { evaluate: (one) => one.evaluate(data.heldOutImages(evaluationBatch)), evaluateEvery }
      : {}),
    sample: (one) => reconstructions(one.target, shown),
    sampleEvery: evaluateEvery,
    curves: {
      'loss.png': ['loss', 'reconstruction', 'absolute', 'perceptual'],
      'discriminator.png': ['discriminator', 'realLogit', 'fakeLogit'],
      'psnr.png': ['psnr'],
      'codebook.png': ['perplexity', 'codesUsed'],
    },
    ...(await limits(context, 'image-tokenizer', training)),
  })
  try {
    if (!finished) return false
    await trainer.target.save(paths(folder).imageTokenizer)
    await writeMeasurements(folder, {
      imageTokenizer: {
        steps,
        batch,
        seconds,
        parameters: trainer.target.parameterCount,
        heldOut: evaluation,
      },
    })
    return true
  } finally {
    await disposeAll(trainer, trainer.target)
  }
}

/** Turns all pictures into tokens once, so that the generator's training does not need the image tokenizer. */
export async function makeTokens(context: StageContext): Promise<Finished> {
  const { data, note, signal } = context
  note(`tokens: ${await data.makeTokens(tokenPlace(context), signal)}`)
  return true
}

/** Where the tokens of a run are. */
export function tokenPlace({ folder, config }: StageContext): TokenPlace {
  const { grid } = config.generator.model
  return { folder, tokenizerFolder: paths(folder).imageTokenizer, length: grid ** 2 }
}

/** Which of a run's settings say what the data is, and whether it may be another than before. */
export function dataOptions({ changeData = false }: StageContext, ...dataKeys: string[]) {
  return { dataKeys, changeData }
}

/** What ends a run before its end, and who is told of it. */
export async function limits(
  { minutesLeft, signal, progress, onLog }: StageContext,
  stage: string,
  { precision = 'float32' }: TrainerOptions,
) {
  const minutes = minutesLeft()
  const peak = progress === false ? undefined : await peakFlops(precision, signal)
  return {
    signal,
    ...(peak === undefined ? {} : { peakFlops: peak }),
    ...(minutes === undefined ? {} : { minutes }),
    ...(progress === undefined ? {} : { progress }),
    ...(onLog === undefined ? {} : { onLog: (line: LogLine) => onLog(stage, line) }),
  }
}

/** Disposes of all, one after the other. */
export async function disposeAll(...all: { dispose(): Promise<void> }[]): Promise<void> {
  for (const one of all) await one.dispose()
}

/** Pictures in the upper rows, what becomes of them in the lower ones. */
async function reconstructions(
  tokenizer: ImageTokenizer,
  pairs: readonly ImageTextPair[],
): Promise<RunSamples> {
  const { indices } = await tokenizer.encode(pixelsToTensor(pairs), { count: pairs.length })
  const { width, height } = pairs[0]!
  const decoded = tensorToPixels(await tokenizer.decode(indices, { count: pairs.length }), { width, height })
  const columns = shownPictures / 2
  const images: RgbImage[] = []
  for (let first = 0; first < pairs.length; first += columns) {
    images.push(...pairs.slice(first, first + columns), ...decoded.slice(first, first + columns))
  }
  return { images, columns }
}
