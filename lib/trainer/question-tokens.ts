import type { TextTokenizer } from '../tokenizer/text-tokenizer.ts'
import { outOfRange, rejectUnknownKeys } from '../validate.ts'

/** A question about a picture, and what it is answered with. */
export interface QuestionAnswer {
  question: string
  answer: string
}

/** A row of `text`, `textValid` and `textTarget` of a {@link GeneratorBatch}. */
export interface QuestionTokens {
  /** `CLS question SEP answer SEP`, and PAD. */
  ids: Int32Array
  valid: Uint8Array
  /** 1 at the answer and at the SEP that ends it. */
  target: Uint8Array
}

/**
 * A question with its answer as tokens, to train a generator on in the direction `image-to-text`: the question is given, as in
 * {@link Sampler.answer}, and the loss asks for the answer (ERNIE-ViLG 3.1.2: generative visual question answering).
 *
 * @param length the generator's `textLength`
 * @throws ERR_VILG_INVALID_ARGUMENT for texts that have no token, or more than there is room for
 */
export function questionTokens(
  tokenizer: TextTokenizer,
  qa: QuestionAnswer,
  { length }: { length: number },
): QuestionTokens {
  rejectUnknownKeys('the question', qa, ['question', 'answer'])
  const { ids, valid } = tokenizer.encode(qa.question, { pair: qa.answer, length })
  const end = ids.indexOf(tokenizer.sepId)
  if (end === 1) throw outOfRange('question', 'a text with at least one token', qa.question)
  if (ids[end + 1] === tokenizer.sepId)
    throw outOfRange('answer', 'a text with at least one token', qa.answer)
  return { ids, valid, target: valid.map((one, i) => (one === 1 && i > end ? 1 : 0)) }
}
