import { type ErnieVilg, Sampler } from '../../lib/index.ts'
import { CounterRandom } from '../../lib/data/random.ts'
import { askAll, type PictureQuestion } from './answers.ts'
import type { EmojiItem } from './dataset.ts'
import { QUESTION_KINDS, type QuestionKind } from './questions.ts'

/** How many questions were answered just as they should be. */
export interface AnswersEvaluation {
  questions: number
  /** Share of the questions. */
  exact: number
  /** The same by kind; kinds of which none was asked are missing. */
  kinds: Partial<Record<QuestionKind, { questions: number; exact: number }>>
}

/** Options of {@link evaluateAnswers}. */
export interface AnswersOptions {
  /** How the questions are put. */
  seed: number
  /** Questions to ask at most, drawn from all. */
  count: number
  signal: AbortSignal
  /** Given the share that is done. */
  onProgress(fraction: number): void
}

/** Asks about pictures, and takes the best beam for the answer. */
export async function evaluateAnswers(
  model: ErnieVilg,
  items: readonly EmojiItem[],
  { seed, count, signal, onProgress }: AnswersOptions,
): Promise<AnswersEvaluation> {
  const pictures = new Map(items.map((item) => [item.id, item]))
  const asked = new CounterRandom(seed).shuffled(askAll(items, seed)).slice(0, count)
  const { textTokenizer } = model
  const sampler = new Sampler(model)
  const right: boolean[] = []
  for (const { id, question, answer } of asked) {
    const [given] = await sampler.answer(pictures.get(id)!, question, { signal })
    // as the tokenizer gives it back, so that only the model is measured
    right.push(given!.text === textTokenizer.decode(textTokenizer.encode(answer).ids))
    onProgress(right.length / asked.length)
  }
  const share = (of: (question: PictureQuestion) => boolean) => {
    const chosen = right.filter((_, i) => of(asked[i]!))
    return { questions: chosen.length, exact: chosen.filter(Boolean).length / chosen.length }
  }
  const kinds = Object.fromEntries(
    QUESTION_KINDS.map((kind) => [kind, share((one) => one.kind === kind)] as const).filter(
      ([, { questions }]) => questions > 0,
    ),
  )
  return { ...share(() => true), kinds }
}

/** The numbers as text, a line a part. */
export function answersTable(parts: Readonly<Record<string, AnswersEvaluation>>): string {
  const percent = ({ exact, questions }: { exact: number; questions: number }) =>
    `${(100 * exact).toFixed(1)} % of ${questions}`
  return Object.entries(parts)
    .map(([name, part]) => {
      const kinds = Object.entries(part.kinds).map(([kind, of]) => `${kind} ${percent(of)}`)
      return `${name}: answers right ${percent(part)} (${kinds.join(', ')})`
    })
    .join('\n')
}
