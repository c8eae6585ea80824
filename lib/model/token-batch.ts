import type { NativeBatch } from '../../types/native-models.d.ts'
import { expectTypedArray, outOfRange, typeMismatch } from '../validate.ts'
import type { StreamConfig } from './generator-config.ts'

/** Texts as tokens. M is the model's `textLength`, B the number of texts. */
export interface TextBatch {
  /** B x M: CLS, words, SEP, PAD up to M. */
  text: Int32Array
  /** B x M: 1 where not PAD, else 0. The first of each text is 1. */
  textValid: Uint8Array
}

/** Pairs of texts and pictures as tokens. n is the model's `grid` squared, B the number of pairs. */
export interface TokenBatch extends TextBatch {
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
export function checkTokenBatch(
  batch: unknown,
  config: StreamConfig,
): [...pairs: NativeBatch, target: Uint8Array | undefined] {
  const [text, textValid, image, pairs] = checkPairBatch(batch, config)
  const { textTarget } = batch as TokenBatch
  if (textTarget === undefined) return [text, textValid, image, pairs, undefined]
  const target = expectTypedArray('textTarget', textTarget, Uint8Array, text.length).slice()
  for (let i = 0; i < target.length; i++) {
    if (target[i]! > 1) throw outOfRange(`textTarget[${i}]`, '0 or 1', target[i])
  }
  return [text, textValid, image, pairs, target]
}

/** The same of pairs for a model that predicts nothing. */
export function checkPairBatch(batch: unknown, config: StreamConfig): NativeBatch {
  const name = 'an object with text, textValid and image'
  const [text, textValid, pairs] = checkTexts(batch, config, name)
  const length = pairs * config.grid ** 2
  const image = expectTypedArray('image', (batch as TokenBatch).image, Int32Array, length).slice()
  checkIds('image', image, config.imageVocab)
  return [text, textValid, image, pairs]
}

/** The same of texts alone. */
export function checkTexts(
  texts: unknown,
  { textLength, textVocab }: StreamConfig,
  expected = 'an object with text and textValid',
): [text: Int32Array, valid: Uint8Array, count: number] {
  if (typeof texts !== 'object' || texts === null) throw typeMismatch('batch', expected, texts)
  const given = texts as TextBatch
  const text = expectTypedArray('text', given.text, Int32Array).slice()
  const count = text.length / textLength
  if (!Number.isInteger(count) || count === 0) {
    throw outOfRange('text', `B x ${textLength} ids`, given.text, 'ERR_VILG_SHAPE_MISMATCH')
  }
  const valid = expectTypedArray('textValid', given.textValid, Uint8Array, text.length).slice()
  checkIds('text', text, textVocab)
  for (let i = 0; i < valid.length; i++) {
    const first = i % textLength === 0
    if (valid[i]! > 1 || (first && valid[i] === 0)) {
      throw outOfRange(`textValid[${i}]`, first ? '1 (the place of CLS)' : '0 or 1', valid[i])
    }
  }
  return [text, valid, count]
}

/** Throws unless every id is one of a vocabulary. */
export function checkIds(name: string, ids: Int32Array, vocab: number): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!
    if (id < 0 || id >= vocab) throw outOfRange(`${name}[${i}]`, `an id from 0 to ${vocab - 1}`, id)
  }
}
