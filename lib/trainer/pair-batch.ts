import { expectTypedArray, outOfRange, typeMismatch } from '../validate.ts'

/** B pairs of texts and pictures as tokens; M is the model's text length and n its grid squared. */
export interface PairBatch {
  /** B x M, CLS .. SEP PAD.. */
  text: Int32Array
  /** B x M, 1 where not PAD. */
  textValid: Uint8Array
  /** B x n. */
  image: Int32Array
}

/** The sizes of a model that decide the shapes of its batches. */
interface PairSizes {
  readonly textLength: number
  readonly grid: number
}

/** Throws unless `batch` has the arrays of pairs. */
export function checkPairs(name: string, batch: unknown, sizes: PairSizes): void {
  if (typeof batch !== 'object' || batch === null) {
    throw typeMismatch(name, 'an object with text, textValid and image', batch)
  }
  const { text, textValid, image } = batch as PairBatch
  const { textLength, grid } = sizes
  expectTypedArray(`${name}.text`, text, Int32Array)
  if (text.length === 0 || text.length % textLength !== 0) {
    const expected = `pairs of ${textLength} text tokens`
    throw outOfRange(`${name}.text`, expected, text, 'ERR_VILG_SHAPE_MISMATCH')
  }
  expectTypedArray(`${name}.textValid`, textValid, Uint8Array, text.length)
  expectTypedArray(`${name}.image`, image, Int32Array, (text.length / textLength) * grid ** 2)
}

/** How many pairs a batch has. */
export function countPairs({ text }: PairBatch, { textLength }: PairSizes): number {
  return text.length / textLength
}
