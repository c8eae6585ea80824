import { expectInteger, typeMismatch } from '../validate.ts'
import type { TextTokenizer } from './text-tokenizer.ts'

/**
 * Texts as one batch of tokens, as models take it.
 *
 * @param length tokens of each: the model's `textLength`. Longer texts are cut
 * @returns `text` and `textValid`, texts x length
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function encodeTexts(
  tokenizer: TextTokenizer,
  texts: readonly string[],
  length: number,
): { text: Int32Array; textValid: Uint8Array } {
  if (!Array.isArray(texts)) throw typeMismatch('texts', 'an array of texts', texts)
  expectInteger('length', length, { min: 3 })
  const batch = {
    text: new Int32Array(texts.length * length),
    textValid: new Uint8Array(texts.length * length),
  }
  for (const [i, one] of texts.entries()) {
    const { ids, valid } = tokenizer.encode(one, { length, truncate: true })
    batch.text.set(ids, i * length)
    batch.textValid.set(valid, i * length)
  }
  return batch
}
