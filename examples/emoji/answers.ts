import { CounterRandom } from '../../lib/data/random.ts'
import { VilgError } from '../../lib/errors.ts'
import { modelFingerprint } from '../../lib/model/fingerprint.ts'
import { Generator } from '../../lib/model/generator.ts'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'
import { inTurn } from '../../lib/trainer/bundle/batches.ts'
import { writeMeasurements } from '../../lib/trainer/bundle/measurements.ts'
import { disposeAll, type Finished, limits, paths, tokenPlace } from '../../lib/trainer/bundle/stages.ts'
import type { GeneratorBatch } from '../../lib/trainer/generator-learner.ts'
import { questionTokens } from '../../lib/trainer/question-tokens.ts'
import { trainRun } from '../../lib/trainer/run.ts'
import { Trainer } from '../../lib/trainer/trainer.ts'
import type { GeneratorStep } from '../../lib/trainer/training-loop.ts'
import type { EmojiContext } from './bundle.ts'
import type { EmojiItem } from './dataset.ts'
import { type Question, questionsOf } from './questions.ts'

/** A question about a picture. */
export interface PictureQuestion extends Question {
  /** Of the picture. */
  id: string
}

/** All questions about pictures, in their order; how each is put depends on `seed` and the picture's place alone. */
export function askAll(items: readonly EmojiItem[], seed: number): PictureQuestion[] {
  return items.flatMap((item, i) =>
    questionsOf(item, new CounterRandom(seed, i)).map((question) => ({ ...question, id: item.id })),
  )
}

/** Every text that questions and answers are made of, for the vocabulary. */
export function questionTexts(items: readonly EmojiItem[], seed: number): string[] {
  return [...new Set(askAll(items, seed).flatMap(({ question, answer }) => [question, answer]))]
}

const evaluationBatch = 32

/**
 * Trains the finished generator on questions about its pictures. A step has pairs as before, in both directions, so that it forgets
 * nothing, and as many questions as fit beside them.
 */
export async function trainAnswers(context: EmojiContext): Promise<Finished> {
  const { config, folder, data, items } = context
  const { answers } = config
  const text = await TextTokenizer.load(paths(folder).vocabulary)
  const { textLength } = config.generator.model
  const place = tokenPlace(context)
  const pairs = await data.openTokens(place, { tokenizer: text, textLength })
  const images = await data.imageTokens(place)
  const questions = new QuestionBatches(askAll(items.train, answers.seed), images, text, textLength)
  const heldOut = new QuestionBatches(askAll(items.heldOut, answers.seed), images, text, textLength)
  const { training, batch, questionBatch, steps, evaluateEvery, seed } = answers
  const { trainer, finished, seconds, evaluation } = await trainRun<GeneratorStep, Trainer<GeneratorStep>>(
    paths(folder).answersRun,
    {
      title: 'answers',
      settings: {
        training,
        batch,
        questionBatch,
        seed,
        tokens: pairs.key,
        from: await modelFingerprint(paths(folder).generator),
      },
      dataKeys: ['tokens'],
      steps,
      create: async () =>
        new Trainer(await Generator.load(paths(folder).generator, { precision: 'float32' }), {
          ...training,
          accumulate: 2,
        }),
      resume: (path) => Trainer.resume(path),
      // a step takes one of each, so the run asks from an even number on
      batches: (start) =>
        inTurn(
          pairs.shuffled({ batch, seed, start: start / 2, nameShare: config.generator.nameShare }),
          questions.shuffled({ batch: questionBatch, seed, start: start / 2 }),
        ),
      evaluate: (one) => one.evaluate(heldOut.inOrder(evaluationBatch)),
      evaluateEvery,
      curves: { 'loss.png': ['loss', 'textToImage', 'imageToText'] },
      ...(await limits(context, 'answers', training)),
    },
  )
  try {
    if (!finished) return false
    await trainer.target.save(paths(folder).answers)
    await writeMeasurements(folder, {
      answers: { steps, batch, seconds, parameters: trainer.target.parameterCount, heldOut: evaluation },
    })
    return true
  } finally {
    await disposeAll(trainer, trainer.target)
  }
}

/** Makes batches of questions about pictures whose tokens are known. */
export class QuestionBatches {
  readonly #questions: readonly PictureQuestion[]
  readonly #images: ReadonlyMap<string, Int32Array>
  readonly #tokenizer: TextTokenizer
  readonly #textLength: number

  constructor(
    questions: readonly PictureQuestion[],
    images: ReadonlyMap<string, Int32Array>,
    tokenizer: TextTokenizer,
    textLength: number,
  ) {
    if (questions.length === 0)
      throw new VilgError('ERR_VILG_INVALID_ARGUMENT', 'Expected questions, received none')
    this.#questions = questions
    this.#images = images
    this.#tokenizer = tokenizer
    this.#textLength = textLength
  }

  /** Endless batches, every question once an epoch. Which batch is number i depends on `seed` and i alone. */
  async *shuffled(options: { batch: number; seed: number; start: number }): AsyncGenerator<GeneratorBatch> {
    const { batch, seed, start } = options
    const { length } = this.#questions
    let order: PictureQuestion[] = []
    let epoch = -1
    for (let number = start; ; number++) {
      const chosen = Array.from({ length: batch }, (_, i) => {
        const position = number * batch + i
        const wanted = Math.floor(position / length)
        if (wanted !== epoch) order = new CounterRandom(seed, wanted).shuffled([...this.#questions])
        epoch = wanted
        return order[position % length]!
      })
      yield this.#batch(chosen)
    }
  }

  /** All questions once, in batches of at most `batch`. */
  async *inOrder(batch: number): AsyncGenerator<GeneratorBatch> {
    for (let first = 0; first < this.#questions.length; first += batch)
      yield this.#batch(this.#questions.slice(first, first + batch))
  }

  #batch(questions: readonly PictureQuestion[]): GeneratorBatch {
    const length = this.#textLength
    const rows = questions.map(({ question, answer, id }) => ({
      ...questionTokens(this.#tokenizer, { question, answer }, { length }),
      image: this.#images.get(id)!,
    }))
    const imageLength = rows[0]!.image.length
    const result = {
      text: new Int32Array(rows.length * length),
      textValid: new Uint8Array(rows.length * length),
      textTarget: new Uint8Array(rows.length * length),
      image: new Int32Array(rows.length * imageLength),
      direction: 'image-to-text' as const,
    }
    for (const [i, { ids, valid, target, image }] of rows.entries()) {
      result.text.set(ids, i * length)
      result.textValid.set(valid, i * length)
      result.textTarget.set(target, i * length)
      result.image.set(image, i * imageLength)
    }
    return result
  }
}
