import { readdir } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { type ImageInput, readStoredPixels } from '../../data/image.ts'
import { IMAGE_EXTENSIONS } from '../../data/sources/sample.ts'
import { VilgError } from '../../errors.ts'
import { checkSignal } from '../../native/call.ts'
import {
  expectInteger,
  expectString,
  expectTypedArray,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../../validate.ts'
import type { FeatureExtractor } from './feature-extractor.ts'
import { FeatureStatistics } from './feature-statistics.ts'

/** Options of {@link imageStatistics}. */
export interface ImageStatisticsOptions {
  /** Pictures that are read and given to the extractor together; 16 unless given. */
  batch?: number
  signal?: AbortSignal
  /** Called after each batch with the pictures done, and how many there are where that can be known. */
  onProgress?: (event: { done: number; total?: number }) => void
}

/**
 * The statistics of the features of pictures.
 *
 * Files are read as they are stored ({@link readStoredPixels}: not turned, colours not converted), as pytorch-fid reads them.
 *
 * @param images paths, URLs, bytes or pixels, of any sizes; of two or more, a distance can be computed
 * @throws ERR_VILG_IO, ERR_VILG_INVALID_ARGUMENT for what cannot be read, which ends the work: a distance of some of the pictures would be
 *   another number; ERR_VILG_SHAPE_MISMATCH for an extractor that gives other than its dimensions
 */
export async function imageStatistics(
  images: Iterable<ImageInput> | AsyncIterable<ImageInput>,
  extractor: FeatureExtractor,
  options: ImageStatisticsOptions = {},
): Promise<FeatureStatistics> {
  rejectUnknownKeys('imageStatistics options', options, ['batch', 'signal', 'onProgress'])
  const { signal, onProgress } = options
  checkSignal(signal)
  const batch = expectInteger('batch', options.batch ?? 16, { min: 1, max: 4096 })
  if (typeof extractor?.extract !== 'function') {
    throw typeMismatch('extractor', 'an object with dimensions and an extract function', extractor)
  }
  const statistics = new FeatureStatistics(extractor.dimensions)
  const total = Array.isArray(images) ? { total: images.length } : {}
  const count = async (inputs: readonly ImageInput[]): Promise<void> => {
    signal?.throwIfAborted()
    const pictures = await Promise.all(inputs.map(readStoredPixels))
    const features = await extractor.extract(pictures, { signal })
    const length = pictures.length * extractor.dimensions
    await statistics.add(expectTypedArray('what the extractor returns', features, Float32Array, length))
    onProgress?.({ done: statistics.count, ...total })
  }
  let waiting: ImageInput[] = []
  for await (const image of images) {
    waiting.push(image)
    if (waiting.length < batch) continue
    await count(waiting)
    waiting = []
  }
  if (waiting.length > 0) await count(waiting)
  return statistics
}

/**
 * The paths of a folder's pictures (not of its subfolders, as pytorch-fid does), in a fixed order.
 *
 * @throws ERR_VILG_IO; ERR_VILG_INVALID_ARGUMENT for a folder without pictures
 */
export async function folderImages(folder: string): Promise<string[]> {
  expectString('folder', folder)
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (cause) {
    const text = `Cannot read the folder ${folder}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', text, { folder }, { cause })
  }
  const pictures = names.filter((name) => IMAGE_EXTENSIONS.has(extname(name).toLowerCase())).sort()
  if (pictures.length === 0) throw outOfRange('folder', 'a folder with pictures', folder)
  return pictures.map((name) => join(folder, name))
}
