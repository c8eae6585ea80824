import type { RgbImage } from '../../data/image.ts'

/**
 * Turns pictures into feature vectors. FID is defined on those of one network ({@link loadInception}); the distance of other features is as
 * sound, but compares with nothing else.
 */
export interface FeatureExtractor {
  /** Numbers in a vector. */
  readonly dimensions: number
  /**
   * @param images of any sizes, at least one
   * @returns one vector a picture, one after the other: images.length x dimensions
   */
  extract(
    images: readonly RgbImage[],
    options: { signal?: AbortSignal | undefined },
  ): Promise<Float32Array> | Float32Array
}
