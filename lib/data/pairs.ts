import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import {
  expectInteger,
  expectNumber,
  expectOneOf,
  expectString,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { IMAGE_FITS, type ImageFit, type RgbImage, readImage } from './image.ts'
import { eachInParallel } from './parallel.ts'
import { epochOrder } from './random.ts'
import { byCodeUnit, listPictures } from './sources/folder-list.ts'
import { LIST_NAMES, type ListedFile } from './sources/list-file.ts'
import { reasonOfBadFile } from './stream/image-reader.ts'

/** A picture and what it may be called: one sample of training data. */
export interface ImageTextPair extends RgbImage {
  /** At least one, none empty; the first is the one that names the picture best. */
  captions: string[]
  /** Tells the pair from all others of its source. */
  id: string
}

/** Pairs in a fixed order, each read when it is asked for. */
export interface PairSource<Pair extends ImageTextPair = ImageTextPair> {
  /** How many there are. */
  readonly length: number
  /** What the pair at `index` is called, without reading its picture. */
  describe(index: number): { id: string; captions: readonly string[] }
  /** The pair at `index`, from 0 to `length` - 1. */
  read(index: number): Promise<Pair>
}

/** A source over pairs that are in memory. */
export function memoryPairs<Pair extends ImageTextPair>(pairs: readonly Pair[]): PairSource<Pair> {
  if (!Array.isArray(pairs)) throw typeMismatch('pairs', 'an array of pairs', pairs)
  if (pairs.length === 0) throw outOfRange('pairs', 'at least one pair', pairs)
  const at = (index: number) => pairs[expectInteger('index', index, { min: 0, max: pairs.length - 1 })]!
  return { length: pairs.length, describe: at, read: async (index) => at(index) }
}

/**
 * Sets a share of the pairs aside, each pair with the same probability; at least one pair stays.
 *
 * @param share from 0 to 1
 * @returns both parts in the order of the source; `heldOut` may have no pair
 */
export function splitPairs<Pair extends ImageTextPair>(
  source: PairSource<Pair>,
  { share, seed }: { share: number; seed: number },
): { train: PairSource<Pair>; heldOut: PairSource<Pair> } {
  const { length } = source
  const count = Math.min(Math.round(length * expectNumber('share', share, { min: 0, max: 1 })), length - 1)
  const order = epochOrder(length, seed, 0)
  const part = (indices: Uint32Array): PairSource<Pair> => {
    const sorted = indices.sort()
    const at = (index: number) => sorted[expectInteger('index', index, { min: 0, max: sorted.length - 1 })]!
    return {
      length: sorted.length,
      describe: (index) => source.describe(at(index)),
      read: async (index) => source.read(at(index)),
    }
  }
  return { train: part(order.slice(count)), heldOut: part(order.slice(0, count)) }
}

/** A pair as {@link shufflePairs} gives it: with its place in the stream. */
export interface ShuffledPair<Pair extends ImageTextPair = ImageTextPair> {
  pair: Pair
  /** Number of pairs given before this one since position 0 of the stream. */
  position: number
  /** How many times all pairs were given before. */
  epoch: number
}

/** Options of {@link shufflePairs}. */
export interface ShuffleOptions {
  /** An integer from 0 to 2^53 - 1. */
  seed: number
  /** The position to begin at, 0 unless given: that of the first pair not yet used, for a run that goes on. */
  start?: number
  /** Where to stop (a multiple of the source's length from position 0 on); endless unless given. */
  epochs?: number
}

/**
 * Streams pairs in random order: every epoch visits each pair once, in an order that depends on `seed` and the number of the
 * epoch alone. A stream that starts at a later position gives just what an uninterrupted one gives from there on.
 */
export async function* shufflePairs<Pair extends ImageTextPair>(
  source: PairSource<Pair>,
  options: ShuffleOptions,
): AsyncGenerator<ShuffledPair<Pair>, void, undefined> {
  rejectUnknownKeys('shufflePairs options', options, ['seed', 'start', 'epochs'])
  const seed = expectInteger('seed', options?.seed, { min: 0 })
  const start = expectInteger('start', options.start ?? 0, { min: 0 })
  const epochs = options.epochs === undefined ? Infinity : expectInteger('epochs', options.epochs, { min: 1 })
  const { length } = source
  for (let epoch = Math.floor(start / length); epoch < epochs; epoch++) {
    const order = epochOrder(length, seed, epoch)
    const first = Math.max(0, start - epoch * length)
    for (let i = first; i < length; i++) {
      yield { pair: await source.read(order[i]!), position: epoch * length + i, epoch }
    }
  }
}

/** Options of {@link folderPairs}. */
export interface FolderPairsOptions {
  /** Side of the square pictures, in pixels. */
  size: number
  /** How pictures that are not square become so; `cover` unless given. */
  fit?: ImageFit
  /**
   * Pixels kept in memory, in bytes; 1 GiB unless given. Pictures beyond it are read from their files each time they are asked
   * for.
   */
  maxBytes?: number
}

/** What {@link folderPairs} found. */
export interface FolderPairsReport {
  /** Pairs that can be used. */
  valid: number
  /** Samples that cannot, and were left out. */
  skipped: number
  /** An entry for each skipped sample, at most 1000: its file, from the folder on, and what is wrong. */
  problems: { file: string; reason: string }[]
}

/**
 * The pictures of a folder or of a list with their captions, found as {@link listPictures} does, to be read in any order.
 *
 * Every picture is read once here. Those that cannot be used (damaged, no caption, file missing) are left out and listed in
 * the report. None left is an error.
 */
export async function folderPairs(
  folder: string,
  options: FolderPairsOptions,
): Promise<{ source: PairSource; report: FolderPairsReport }> {
  expectString('folder', folder)
  rejectUnknownKeys('folderPairs options', options, ['size', 'fit', 'maxBytes'])
  const size = expectInteger('size', options?.size, { min: 1, max: 8192 })
  const maxBytes = expectInteger('maxBytes', options.maxBytes ?? 2 ** 30, { min: 0 })
  const imageOptions = { size, fit: expectOneOf('fit', options.fit ?? 'cover', IMAGE_FITS) }

  const { folder: root, files, broken } = await listPictures(folder)
  const imageBytes = size * size * 3
  const numKept = Math.floor(maxBytes / imageBytes)
  const read: ({ sample: ListedFile; image: RgbImage | undefined } | undefined)[] = []
  await eachInParallel(files, async (sample, i) => {
    try {
      const image = await readImage(join(root, sample.file), imageOptions)
      read[i] = { sample, image: i < numKept ? image : undefined }
    } catch (error) {
      broken.add(sample.file, reasonOfBadFile(error))
    }
  })
  const usable = read.filter((entry) => entry !== undefined)
  const problems = broken.listed.map(({ id, reason }) => ({ file: id, reason }))
  problems.sort((a, b) => byCodeUnit(a.file, b.file))
  if (usable.length === 0) throw noPairs(folder, broken.count, problems)

  const at = (index: number) => usable[expectInteger('index', index, { min: 0, max: usable.length - 1 })]!
  const source: PairSource = {
    length: usable.length,
    describe(index) {
      const { file, captions } = at(index).sample
      return { id: file, captions }
    },
    async read(index) {
      const { sample, image } = at(index)
      const { pixels } = image ?? (await readImage(join(root, sample.file), imageOptions))
      return { id: sample.file, captions: sample.captions, pixels, width: size, height: size }
    },
  }
  return { source, report: { valid: usable.length, skipped: broken.count, problems } }
}

function noPairs(folder: string, count: number, problems: FolderPairsReport['problems']): VilgError {
  const shown = problems.slice(0, 3).map(({ file, reason }) => `${file}: ${reason}`)
  const found = count === 0 ? 'it has no pictures' : `${count} are unusable (${shown.join('; ')})`
  const text = `Expected pictures with captions (a .txt beside each, or ${LIST_NAMES.join(' or ')}) in ${folder}, and ${found}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { folder, problems })
}
