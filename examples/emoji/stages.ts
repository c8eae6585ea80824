import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type RgbImage, pixelsToTensor, tensorToPixels, writeFileWhole } from '../../lib/data/image.ts'
import { ImageTokenizer } from '../../lib/model/image-tokenizer.ts'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'
import { trainWordPiece } from '../../lib/tokenizer/train-word-piece.ts'
import { trainRun, type RunSamples } from '../../lib/trainer/run.ts'
import { Trainer } from '../../lib/trainer/trainer.ts'
import type { ImageTokenizerStep } from '../../lib/trainer/training-loop.ts'
import { imageBatches, imageBatchesInOrder } from './batches.ts'
import type { EmojiConfig } from './config.ts'
import type { EmojiDataset, EmojiItem } from './dataset.ts'
import { writeMeasurements } from './measurements.ts'

/** What all stages share. */
export interface StageContext {
  config: EmojiConfig
  /** The run folder. */
  folder: string
  data: EmojiDataset
  /** Minutes that are left; undefined: no limit. */
  minutesLeft(): number | undefined
  signal: AbortSignal
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
export async function makeVocabulary({ config, folder, data }: StageContext): Promise<Finished> {
  const corpus = data.train.flatMap(({ captions }) => captions)
  // Characters of held-out captions get tokens, though nobody can learn them if no other caption has them.
  const characters = [...new Set(data.heldOut.flatMap(({ captions }) => captions).join(''))]
  const tokens = trainWordPiece([...corpus, ...characters], { size: config.text.vocabularySize })
  const tokenizer = TextTokenizer.fromVocabulary(tokens)
  await tokenizer.save(paths(folder).vocabulary)
  const lengths = corpus.map((caption) => tokenizer.encode(caption).ids.length)
  console.log(
    `vocabulary: ${tokens.length} tokens from ${corpus.length} captions, of ${Math.max(...lengths)} tokens at most`,
  )
  return true
}

/** Trains the image tokenizer. */
export async function trainImageTokenizer(context: StageContext): Promise<Finished> {
  const { data, folder } = context
  const { model, training, batch, steps, evaluateEvery, seed } = context.config.imageTokenizer
  const shown = shownItems(data)
  const { trainer, finished, seconds, evaluation } = await trainRun<
    ImageTokenizerStep,
    Trainer<ImageTokenizerStep>
  >(paths(folder).imageTokenizerRun, {
    title: 'image tokenizer',
    settings: { model, training, batch, seed, data: context.config.data },
    steps,
    create: async () =>
      new Trainer(await ImageTokenizer.create(model, { precision: 'float32', seed }), training),
    resume: (path) => Trainer.resume(path),
    batches: (start) => imageBatches(data.train, { batch, seed, start }),
    evaluate: (one) => one.evaluate(imageBatchesInOrder(data.heldOut, evaluationBatch)),
    evaluateEvery,
    sample: (one) => reconstructions(one.target, shown),
    sampleEvery: evaluateEvery,
    curves: {
      'loss.png': ['loss', 'reconstruction', 'absolute'],
      'psnr.png': ['psnr'],
      'codebook.png': ['perplexity', 'codesUsed'],
    },
    ...limits(context),
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

/** Pictures of all categories to look at: the first half is trained on, the second held out. */
export function shownItems({ train, heldOut }: EmojiDataset): EmojiItem[] {
  const half = shownPictures / 2
  // from the middles of equal stretches, as the very first ones are keycaps and flags
  const spread = (items: readonly EmojiItem[]) =>
    Array.from({ length: half }, (_, i) => items[Math.floor(((i + 0.5) * items.length) / half)]!)
  return [...spread(train), ...spread(heldOut)]
}

/** Turns all pictures into tokens once, so that the generator's training does not need the image tokenizer. */
export async function makeTokens({ folder, data }: StageContext): Promise<Finished> {
  const { imageTokenizer, tokens: path } = paths(folder)
  const tokenizer = await ImageTokenizer.load(imageTokenizer, { precision: 'float32' })
  try {
    const items = [...data.train, ...data.heldOut]
    const parts: Int32Array[] = []
    for (let first = 0; first < items.length; first += evaluationBatch) {
      const part = items.slice(first, first + evaluationBatch)
      parts.push((await tokenizer.encode(pixelsToTensor(part), { count: part.length })).indices)
    }
    const key = await tokensKey(folder, data)
    const header = Buffer.from(`${JSON.stringify({ key, pictures: items.length })}\n`)
    const indices = parts.flatMap((part) => [...part])
    const bytes = Buffer.alloc(indices.length * 2)
    indices.forEach((index, i) => bytes.writeUInt16LE(index, i * 2))
    await writeFileWhole(path, Buffer.concat([header, bytes]))
    console.log(`tokens: ${items.length} pictures, ${new Set(indices).size} different tokens`)
    return true
  } finally {
    await tokenizer.dispose()
  }
}

/** What ends a run before its end. */
export function limits({ minutesLeft, signal }: StageContext) {
  const minutes = minutesLeft()
  return { signal, ...(minutes === undefined ? {} : { minutes }) }
}

/** Disposes of all, one after the other. */
export async function disposeAll(...all: { dispose(): Promise<void> }[]): Promise<void> {
  for (const one of all) await one.dispose()
}

/** Pictures in the upper rows, what becomes of them in the lower ones. */
async function reconstructions(tokenizer: ImageTokenizer, items: readonly EmojiItem[]): Promise<RunSamples> {
  const { indices } = await tokenizer.encode(pixelsToTensor(items), { count: items.length })
  const { width, height } = items[0]!
  const decoded = tensorToPixels(await tokenizer.decode(indices, { count: items.length }), { width, height })
  const columns = shownPictures / 2
  const images: RgbImage[] = []
  for (let first = 0; first < items.length; first += columns) {
    images.push(...items.slice(first, first + columns), ...decoded.slice(first, first + columns))
  }
  return { images, columns }
}

/** Changes whenever the tokens have to be made anew. */
export async function tokensKey(folder: string, { train, heldOut }: EmojiDataset): Promise<string> {
  const weights = await readFile(join(paths(folder).imageTokenizer, 'weights.safetensors'))
  const ids = [...train, ...heldOut].map(({ id }) => id).join('\n')
  return createHash('sha256').update(weights).update(ids).digest('hex')
}

/** The tokens of all pictures, by id. */
export async function readTokens(
  folder: string,
  data: EmojiDataset,
  length: number,
): Promise<Map<string, Int32Array>> {
  const items = [...data.train, ...data.heldOut]
  const bytes = await readFile(paths(folder).tokens)
  const end = bytes.indexOf('\n')
  const { key } = JSON.parse(bytes.subarray(0, end).toString()) as { key: string }
  if (key !== (await tokensKey(folder, data)) || bytes.length - end - 1 !== items.length * length * 2) {
    throw new Error(
      `${paths(folder).tokens} is not of this image tokenizer and data set. Run --stage tokens again`,
    )
  }
  return new Map(
    items.map(({ id }, i) => {
      const first = end + 1 + i * length * 2
      return [id, Int32Array.from({ length }, (_, p) => bytes.readUInt16LE(first + p * 2))]
    }),
  )
}
