import type { NativeBatch } from '../../types/native-models.d.ts'
import { expectTypedArray, outOfRange, typeMismatch } from '../validate.ts'
import type { GeneratorConfig } from './generator-config.ts'

/** Pairs of texts and pictures as tokens. M is the generator's `textLength`, n its `grid` squared, B the number of pairs. */
export interface TokenBatch {
  /** B x M: CLS, words, SEP, PAD up to M. */
  text: Int32Array
  /** B x M: 1 where not PAD, else 0. The first of each text is 1. */
  textValid: Uint8Array
  /** B x n, in raster order. */
  image: Int32Array
  /**
   * B x M: 1 where describing is to predict the token, else 0: of a question with its answer, the answer and its SEP. All tokens that are
   * valid, but CLS, where it is not given.
   */
  textTarget?: Uint8Array | undefined
}

/**
 * Refuses what does not fit the model: wrong lengths, ids out of range. Returns a copy, as the caller may change the arrays before the
 * model comes to them, and the number of pairs.
 */
export function checkTokenBatch(batch: unknown, config: GeneratorConfig): NativeBatch {
  const { text, textValid, image, textTarget } = checkArrays(batch, config)
  const pairs = text.length / config.textLength
  checkIds('text', text, config.textVocab)
  checkIds('image', image, config.imageVocab)
  for (let i = 0; i < textValid.length; i++) {
    const first = i % config.textLength === 0
    if (textValid[i]! > 1 || (first && textValid[i] === 0)) {
      throw outOfRange(`textValid[${i}]`, first ? '1 (the place of CLS)' : '0 or 1', textValid[i])
    }
  }
  for (let i = 0; textTarget !== undefined && i < textTarget.length; i++) {
    if (textTarget[i]! > 1) throw outOfRange(`textTarget[${i}]`, '0 or 1', textTarget[i])
  }
  return [text, textValid, image, textTarget, pairs]
}

function checkArrays(batch: unknown, { textLength, grid }: GeneratorConfig): TokenBatch {
  if (typeof batch !== 'object' || batch === null) {
    throw typeMismatch('batch', 'an object with text, textValid and image', batch)
  }
  const given = batch as TokenBatch
  const text = expectTypedArray('text', given.text, Int32Array)
  const pairs = text.length / textLength
  if (!Number.isInteger(pairs) || pairs === 0) {
    throw outOfRange('text', `B x ${textLength} ids`, text, 'ERR_VILG_SHAPE_MISMATCH')
  }
  const textValid = expectTypedArray('textValid', given.textValid, Uint8Array, text.length)
  const image = expectTypedArray('image', given.image, Int32Array, pairs * grid * grid)
  const textTarget =
    given.textTarget === undefined
      ? undefined
      : expectTypedArray('textTarget', given.textTarget, Uint8Array, text.length)
  return {
    text: text.slice(),
    textValid: textValid.slice(),
    image: image.slice(),
    textTarget: textTarget?.slice(),
  }
}

/** Throws unless every id is one of a vocabulary. */
export function checkIds(name: string, ids: Int32Array, vocab: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!
    if (id < 0 || id >= vocab) throw outOfRange(`${name}[${i}]`, `an id from 0 to ${vocab - 1}`, id)
  }
}
