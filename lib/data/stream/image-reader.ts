import { VilgError } from '../../errors.ts'
import { type ImageFit, readImage, type RgbImage } from '../image.ts'
import type { ImageTextPair } from '../pairs.ts'
import type { ImageSample } from '../sources/sample.ts'

/** Pictures that are decoded at the same time: libuv has four threads, and some more wait for one. */
export const DECODE_AHEAD = 8

/** What of a file's error is the file's own fault, so that others can go on without it; other errors are thrown. */
export function reasonOfBadFile(error: unknown): string {
  const isBadFile =
    error instanceof VilgError && (error.code === 'ERR_VILG_INVALID_ARGUMENT' || error.code === 'ERR_VILG_IO')
  if (!isBadFile) throw error
  return error.message
}

/** Decodes pictures of a size on other threads, and keeps the first ones that fit into `cacheBytes`. */
export class ImageReader {
  readonly #size: number
  readonly #fit: ImageFit
  readonly #kept = new Map<string, RgbImage>()
  readonly #mostKept: number

  constructor(size: number, fit: ImageFit, cacheBytes = 0) {
    this.#size = size
    this.#fit = fit
    this.#mostKept = Math.floor(cacheBytes / (size * size * 3))
  }

  /**
   * The sample with its picture.
   *
   * @param key tells it from all other samples that this reader is given; it is not kept without one
   */
  async read({ id, captions, image }: ImageSample, key?: string): Promise<ImageTextPair> {
    const kept = key === undefined ? undefined : this.#kept.get(key)
    const decoded = kept ?? (await readImage(image, { size: this.#size, fit: this.#fit }))
    if (key !== undefined && this.#kept.size < this.#mostKept) this.#kept.set(key, decoded)
    return { ...decoded, id, captions }
  }
}
