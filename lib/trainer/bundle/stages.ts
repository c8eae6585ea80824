import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type RgbImage, pixelsToTensor, tensorToPixels, writeFileWhole } from '../../data/image.ts'
import type { ImageTextPair, PairSource } from '../../data/pairs.ts'
import { VilgError } from '../../errors.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { trainWordPiece } from '../../tokenizer/train-word-piece.ts'
import type { ProgressStream } from '../progress.ts'
import type { TrainerOptions } from '../options.ts'
import type { LogLine } from '../run-log.ts'
import { trainRun, type RunSamples } from '../run.ts'
import { Trainer } from '../trainer.ts'
import type { ImageTokenizerStep } from '../training-loop.ts'
import { imageBatches, imageBatchesInOrder, readPairs } from './batches.ts'
import type { BundleTrainingConfig } from './config.ts'
import { writeMeasurements } from './measurements.ts'
import { peakFlops } from './peak-flops.ts'

/** What all stages share. */
export interface StageContext {
  config: BundleTrainingConfig
  /** The run folder. */
  folder: string
  data: {
    train: PairSource
    /** May have no pair: then nothing is evaluated. */
    heldOut: PairSource
  }
  /** What decides the data, as JSON: a run goes on with the same only. */
  dataSettings: unknown
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
  imageTokenizerRun: join(folder, 'image-tokenizer'),
  imageTokenizer: join(folder, 'image-tokenizer', 'model'),
  tokens: join(folder, 'tokens.bin'),
  generatorRun: join(folder, 'generator'),
  generator: join(folder, 'generator', 'model'),
})

/** Makes the text vocabulary from the captions that are trained on, and from all characters of the others. */
export async function makeVocabulary({ config, folder, data, note }: StageContext): Promise<Finished> {
  const corpus = describeAll(data.train).flatMap(({ captions }) => captions)
  // Characters of held-out captions get tokens, though nobody can learn them if no other caption has them.
  const others = describeAll(data.heldOut).flatMap(({ captions }) => captions)
  const characters = [...new Set(others.join(''))]
  const tokens = trainWordPiece([...corpus, ...characters], { size: config.text.vocabularySize })
  const tokenizer = TextTokenizer.fromVocabulary(tokens)
  await tokenizer.save(paths(folder).vocabulary)
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
  return true
}

/** Trains the image tokenizer. */
export async function trainImageTokenizer(context: StageContext): Promise<Finished> {
  const { data, folder, dataSettings } = context
  const { model, training, batch, steps, evaluateEvery, seed } = context.config.imageTokenizer
  const shown = await shownPairs(context)
  const { trainer, finished, seconds, evaluation } = await trainRun<
    ImageTokenizerStep,
    Trainer<ImageTokenizerStep>
  >(paths(folder).imageTokenizerRun, {
    title: 'image tokenizer',
    settings: { model, training, batch, seed, data: dataSettings },
    steps,
    create: async () =>
      new Trainer(await ImageTokenizer.create(model, { precision: 'float32', seed }), training),
    resume: (path) => Trainer.resume(path),
    batches: (start) => imageBatches(data.train, { batch, seed, start }),
    ...(data.heldOut.length === 0
      ? {}
      : {
          evaluate: (one) => one.evaluate(imageBatchesInOrder(data.heldOut, evaluationBatch)),
          evaluateEvery,
        }),
    sample: (one) => reconstructions(one.target, shown),
    sampleEvery: evaluateEvery,
    curves: {
      'loss.png': ['loss', 'reconstruction', 'absolute'],
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

/** Pictures of all kinds to look at, the first half trained on, the second held out (where there are any). */
export async function shownPairs({ data: { train, heldOut } }: StageContext): Promise<ImageTextPair[]> {
  const half = shownPictures / 2
  // from the middles of equal stretches, as the very first ones may be all of a kind
  const spread = (source: PairSource) =>
    Array.from({ length: half }, (_, i) => source.read(Math.floor(((i + 0.5) * source.length) / half)))
  return Promise.all([...spread(train), ...(heldOut.length === 0 ? [] : spread(heldOut))])
}

/** Turns all pictures into tokens once, so that the generator's training does not need the image tokenizer. */
export async function makeTokens({ folder, data, config, note, signal }: StageContext): Promise<Finished> {
  const { imageTokenizer, tokens: path } = paths(folder)
  const length = config.generator.model.grid ** 2
  const known = await readTokens(folder, data, length).catch(() => undefined)
  if (known !== undefined) {
    note(`tokens: those of ${known.size} pictures are there`)
    return true
  }
  const tokenizer = await ImageTokenizer.load(imageTokenizer, { precision: 'float32' })
  try {
    const { codebookSize } = tokenizer.config
    const used = new Set<number>()
    const sources = [data.train, data.heldOut]
    const pictures = data.train.length + data.heldOut.length
    const key = await tokensKey(folder, data)
    const parts = [Buffer.from(`${JSON.stringify({ key, pictures })}\n`)]
    for (const source of sources) {
      for (let first = 0; first < source.length; first += evaluationBatch) {
        const part = await readPairs(source, first, evaluationBatch)
        const { indices } = await tokenizer.encode(pixelsToTensor(part), { count: part.length, signal })
        indices.forEach((index) => used.add(index))
        parts.push(tokenBytes(indices, codebookSize))
      }
    }
    await writeFileWhole(path, Buffer.concat(parts))
    note(`tokens: ${pictures} pictures, ${used.size} different tokens`)
    return true
  } finally {
    await tokenizer.dispose()
  }
}

/** Two bytes a token where that is enough, else four; little-endian. */
function bytesPerToken(codebookSize: number): 2 | 4 {
  return codebookSize <= 2 ** 16 ? 2 : 4
}

function tokenBytes(indices: Int32Array, codebookSize: number): Buffer<ArrayBuffer> {
  const size = bytesPerToken(codebookSize)
  const bytes = Buffer.alloc(indices.length * size)
  indices.forEach((index, i) => bytes.writeUIntLE(index, i * size, size))
  return bytes
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

function describeAll(source: PairSource) {
  return Array.from({ length: source.length }, (_, i) => source.describe(i))
}

/** Changes whenever the tokens have to be made anew. */
export async function tokensKey(folder: string, { train, heldOut }: StageContext['data']): Promise<string> {
  const weights = await readFile(join(paths(folder).imageTokenizer, 'weights.safetensors'))
  const ids = [...describeAll(train), ...describeAll(heldOut)].map(({ id }) => id).join('\n')
  return createHash('sha256').update(weights).update(ids).digest('hex')
}

/** The tokens of all pictures, by id. */
export async function readTokens(
  folder: string,
  data: StageContext['data'],
  length: number,
): Promise<Map<string, Int32Array>> {
  const path = paths(folder).tokens
  const pairs = [...describeAll(data.train), ...describeAll(data.heldOut)]
  const bytes = await readFile(path)
  const end = bytes.indexOf('\n')
  const { key } = JSON.parse(bytes.subarray(0, end).toString()) as { key: string }
  const size = (bytes.length - end - 1) / (pairs.length * length)
  if (key !== (await tokensKey(folder, data)) || (size !== 2 && size !== 4)) {
    const text = `Expected the tokens of this image tokenizer and these pictures in ${path}, found others. Do the stage tokens again`
    throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, { path })
  }
  return new Map(
    pairs.map(({ id }, i) => {
      const first = end + 1 + i * length * size
      return [id, Int32Array.from({ length }, (_, p) => bytes.readUIntLE(first + p * size, size))]
    }),
  )
}
