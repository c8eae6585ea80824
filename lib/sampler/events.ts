import type { RgbImage } from '../data/image.ts'
import type { GeneratedImage } from './generated-image.ts'

/**
 * Where a sampling call is. `fraction` is the share of the phase that is done, in (0, 1], and never falls within a phase.
 *
 * - `encode`: the picture to describe becomes tokens
 * - `decode`: tokens are drawn, row by row; candidates beyond one session's share one fraction
 * - `vqgan`: tokens become pixels
 * - `rerank`: candidates are scored
 */
export interface ProgressEvent {
  phase: 'encode' | 'decode' | 'vqgan' | 'rerank'
  fraction: number
}

/** What {@link Sampler.streamImage} gives: an event a row of tokens, then the finished picture. */
export type ImageEvent =
  | {
      type: 'row'
      /** Rows drawn so far, from 1. */
      row: number
      rows: number
      /** Tokens drawn so far, in raster order. */
      tokens: Int32Array
      /** The unfinished picture; what is not drawn yet is grey. Null for rows between two previews (`previewEvery`). */
      preview: RgbImage | null
    }
  | { type: 'image'; image: GeneratedImage }
