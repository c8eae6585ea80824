import type { NativeDrawOptions, NativeImageSession } from '../../types/native-models.d.ts'
import { type ImageInput, pixelsToTensor, readImage, type RgbImage, tensorToPixels } from '../data/image.ts'
import { VilgError } from '../errors.ts'
import type { Task } from '../model/bundle-file.ts'
import { CallQueue } from '../model/call-queue.ts'
import { ErnieVilg } from '../model/ernie-vilg.ts'
import { openImageSession, openTextSession } from '../model/sessions.ts'
import { callNative, checkSignal } from '../native/call.ts'
import { expectBoolean, expectString, outOfRange, typeMismatch } from '../validate.ts'
import type { ImageEvent, ProgressEvent } from './events.ts'
import { GeneratedImage, type GeneratedText } from './generated-image.ts'
import {
  type AnswerOptions,
  checkImageToText,
  checkScores,
  checkStreamImage,
  checkTextToImage,
  type ImageToTextOptions,
  maxRows,
  type RerankerName,
  type StreamImageOptions,
  type TextToImageOptions,
  type WorkOptions,
} from './options.ts'
import { type Reranker, rerankerNamed } from './reranker.ts'

/** Pictures that the image tokenizer decodes at once: bounds its memory, and how long a stop takes. */
const imagesPerDecode = 4
/** What the unfinished part of a preview shows. */
const grey = 200

type Report = (phase: ProgressEvent['phase'], fraction: number) => void

/**
 * Draws pictures from text and describes pictures in text with one model (ERNIE-ViLG 3.1).
 *
 * Calls on one sampler run one after the other, in the order in which they were made; a call that is aborted while it waits rejects
 * at once. Rows of {@link Sampler.streamImage} are calls of their own, so other calls may come between two of them. Use several
 * samplers of one model for work that should interleave.
 *
 * ```ts
 * await using model = await ErnieVilg.load()
 * const sampler = new Sampler(model)
 * const [image] = await sampler.textToImage('红苹果', { seed: 1 })
 * await image.toFile('apple.png')
 * ```
 */
export class Sampler {
  readonly #model: ErnieVilg
  readonly #queue = new CallQueue()

  /** @throws ERR_VILG_INVALID_ARGUMENT (TypeError) where `model` is not an {@link ErnieVilg} */
  constructor(model: ErnieVilg) {
    if (!(model instanceof ErnieVilg)) throw typeMismatch('model', 'an ErnieVilg', model)
    this.#model = model
  }

  /** The model that it samples from. */
  get model(): ErnieVilg {
    return this.#model
  }

  /**
   * Draws `count` candidates for a prompt; with `best`, returns only the best of them, best first.
   *
   * @throws ERR_VILG_INVALID_ARGUMENT for an empty prompt, one with more tokens than the model reads (unless `truncate`), bad
   *   options; ERR_VILG_OUT_OF_MEMORY where the candidates' caches do not fit; ERR_VILG_DISPOSED
   */
  async textToImage(prompt: string, options: TextToImageOptions = {}): Promise<GeneratedImage[]> {
    const { draw, count, best, reranker: chosen } = checkTextToImage(options, this.#model.samplingDefaults)
    this.#expectTask('text-to-image')
    const reranker = best === undefined ? undefined : this.#reranker(chosen)
    const { text, valid } = this.#encodePrompt(prompt, options.truncate)
    const { signal } = options
    checkSignal(signal)
    const report = reporter(options.onProgress)
    return this.#queue.run(signal, async () => {
      const drawn = await this.#drawCandidates(text, valid, count, draw, signal, report)
      const pictures = await this.#decode(drawn.tokens, count, signal, report)
      const n = drawn.tokens.length / count
      const images = pictures.map(
        (image, candidate) =>
          new GeneratedImage({
            image,
            tokens: drawn.tokens.slice(candidate * n, (candidate + 1) * n),
            logProbability: drawn.logProbabilities[candidate]!,
            candidate,
            seed: draw.seed,
          }),
      )
      if (reranker === undefined) return images
      return await rerank(reranker, prompt, images, best!, signal, report)
    })
  }

  /**
   * Draws one picture and gives an event a row of tokens, with a preview decoded from the unfinished grid, then the picture.
   * Returning early from the loop ends the work. The same seed gives the same picture as {@link textToImage}'s first candidate.
   */
  async *streamImage(
    prompt: string,
    options: StreamImageOptions = {},
  ): AsyncGenerator<ImageEvent, void, void> {
    const { draw, previewEvery } = checkStreamImage(options, this.#model.samplingDefaults)
    this.#expectTask('text-to-image')
    const { text, valid } = this.#encodePrompt(prompt, options.truncate)
    const { signal } = options
    checkSignal(signal)
    signal?.throwIfAborted()
    const { grid } = this.#model.generator.config
    const n = grid * grid
    const session = openImageSession(this.#model.generator, text, valid, 1, 0, draw)
    try {
      for (let row = 1; row <= grid; row++) {
        const { event, image } = await this.#queue.run(signal, async () => {
          const { tokens, logProbabilities } = await callNative({ signal }, (control) =>
            session.step(grid, control),
          )
          const last = row === grid
          const preview = previewEvery > 0 && (row % previewEvery === 0 || last)
          const pixels =
            preview || last ? (await this.#decode(continued(tokens, row * grid), 1, signal))[0]! : null
          const event: ImageEvent = {
            type: 'row',
            row,
            rows: grid,
            tokens: tokens.slice(0, row * grid),
            preview: preview ? curtain(pixels!, row / grid) : null,
          }
          if (!last) return { event, image: null }
          const image = new GeneratedImage({
            image: pixels!,
            tokens: tokens.slice(0, n),
            logProbability: logProbabilities[0]!,
            candidate: 0,
            seed: draw.seed,
          })
          return { event, image }
        })
        yield event
        if (image) yield { type: 'image', image }
      }
    } finally {
      session.dispose()
    }
  }

  /**
   * Describes a picture: by beam search, or by sampling where one of the drawing options is given. A description has at least one token,
   * even from a model that would rather say nothing, as one in training may.
   *
   * @param image cut to its middle square and resized to the model's size
   * @returns `count` descriptions, best first for beams
   */
  async imageToText(image: ImageInput, options: ImageToTextOptions = {}): Promise<GeneratedText[]> {
    const checked = checkImageToText('imageToText', options)
    this.#expectTask('image-to-text')
    return this.#describe(image, new Int32Array(), checked, options)
  }

  /**
   * Answers a question about a picture (visual question answering; ERNIE-ViLG 3.1.2): the question is the beginning of the text, `CLS question
   * SEP`, and the answer is what the model goes on with. The model must have been trained for it.
   *
   * @param image cut to its middle square and resized to the model's size
   * @returns `count` answers, best first for beams
   * @throws ERR_VILG_UNSUPPORTED for a model that was not trained to answer; ERR_VILG_INVALID_ARGUMENT for an empty question and for one with
   *   more tokens than leave room for an answer
   */
  async answer(image: ImageInput, question: string, options: AnswerOptions = {}): Promise<GeneratedText[]> {
    const checked = checkImageToText('answer', options)
    this.#expectTask('visual-question-answering')
    return this.#describe(image, this.#encodeQuestion(question), checked, options)
  }

  /** Texts of a picture that begin with the `given` tokens, which are not returned. */
  async #describe(
    image: ImageInput,
    given: Int32Array,
    { count, beams, beamSearch, lengthPenalty, draw }: ReturnType<typeof checkImageToText>,
    { signal, onProgress }: WorkOptions,
  ): Promise<GeneratedText[]> {
    checkSignal(signal)
    const report = reporter(onProgress)
    return this.#queue.run(signal, async () => {
      const { generator, imageTokenizer, textTokenizer } = this.#model
      const picture = await readImage(image, { size: imageTokenizer.config.resolution })
      const { indices } = await imageTokenizer.encode(pixelsToTensor(picture), { count: 1, signal })
      report('encode', 1)
      const { clsId: cls, sepId: sep } = textTokenizer
      const banned = Int32Array.from(textTokenizer.silentIds.filter((id) => id !== sep))
      const how = { beamSearch, lengthPenalty, cls, sep, banned, given }
      const session = openTextSession(generator, indices, beams, how, draw)
      try {
        const longest = generator.config.textLength - 1
        for (let done = false; !done;) {
          const step = await callNative({ signal }, (control) => session.step(4, control))
          done = step.done
          report('decode', done ? 1 : Math.min(step.position / longest, 1))
        }
        return session
          .texts()
          .slice(0, count)
          .map(({ tokens, logProbability, ended }) => ({
            text: textTokenizer.decode(tokens),
            tokens,
            logProbability,
            ended,
          }))
      } finally {
        session.dispose()
      }
    })
  }

  /** A question and its SEP, with room for CLS and an answer of a token. */
  #encodeQuestion(question: string): Int32Array {
    expectString('question', question)
    const { textTokenizer, generator } = this.#model
    const { ids, tokens } = textTokenizer.encode(question)
    if (tokens.length === 0) throw outOfRange('question', 'a text with at least one token', question)
    const room = generator.config.textLength - 3 // CLS, SEP and the answer
    if (tokens.length > room) {
      throw outOfRange('question', `a text of at most ${room} tokens, not ${tokens.length}`, question)
    }
    return ids.slice(1)
  }

  #encodePrompt(prompt: string, truncate: boolean | undefined): { text: Int32Array; valid: Uint8Array } {
    expectString('prompt', prompt)
    if (truncate !== undefined) expectBoolean('truncate', truncate)
    const { textTokenizer, generator } = this.#model
    const length = generator.config.textLength
    const { ids, valid, tokens } = textTokenizer.encode(prompt, { length, truncate: truncate ?? false })
    if (tokens.length === 0) throw outOfRange('prompt', 'a text with at least one token', prompt)
    return { text: ids, valid }
  }

  /** Candidates in sessions of at most 64 rows; each draws from its own random stream, so the split does not show. */
  async #drawCandidates(
    text: Int32Array,
    valid: Uint8Array,
    count: number,
    draw: NativeDrawOptions,
    signal: AbortSignal | undefined,
    report: Report,
  ): Promise<{ tokens: Int32Array; logProbabilities: Float64Array }> {
    const { grid } = this.#model.generator.config
    const n = grid * grid
    const tokens = new Int32Array(count * n)
    const logProbabilities = new Float64Array(count)
    for (let first = 0; first < count; first += maxRows) {
      const rows = Math.min(maxRows, count - first)
      const session: NativeImageSession = openImageSession(
        this.#model.generator,
        text,
        valid,
        rows,
        first,
        draw,
      )
      try {
        for (let row = 0; row < grid; row++) {
          const step = await callNative({ signal }, (control) => session.step(grid, control))
          report('decode', (first + (rows * (row + 1)) / grid) / count)
          if (row + 1 < grid) continue
          tokens.set(step.tokens, first * n)
          logProbabilities.set(step.logProbabilities, first)
        }
      } finally {
        session.dispose()
      }
    }
    return { tokens, logProbabilities }
  }

  async #decode(
    tokens: Int32Array,
    count: number,
    signal: AbortSignal | undefined,
    report?: Report,
  ): Promise<RgbImage[]> {
    const { imageTokenizer } = this.#model
    const side = imageTokenizer.decodedSide
    const n = tokens.length / count
    const images: RgbImage[] = []
    for (let first = 0; first < count; first += imagesPerDecode) {
      const some = Math.min(imagesPerDecode, count - first)
      const tensor = await imageTokenizer.decode(tokens.subarray(first * n, (first + some) * n), {
        count: some,
        signal,
      })
      images.push(...tensorToPixels(tensor, { width: side, height: side }))
      report?.('vqgan', (first + some) / count)
    }
    return images
  }

  /** What candidates are scored by, of the model where it is not given. */
  #reranker(chosen: Reranker | RerankerName | undefined): Reranker {
    if (typeof chosen === 'object') return chosen
    const name = chosen ?? (this.#model.matcher === undefined ? 'likelihood' : 'matcher')
    if (name === 'likelihood') this.#expectTask('image-to-text')
    return rerankerNamed(this.#model, name)
  }

  /** Refuses what the model was never trained for: it would give noise. */
  #expectTask(task: Task): void {
    const { trainedFor, name } = this.#model
    if (trainedFor.includes(task)) return
    const text = `Expected a model trained for ${task}, received '${name}', which was trained for ${trainedFor.join(' and ')} only`
    throw new VilgError('ERR_VILG_UNSUPPORTED', text, { task, trainedFor })
  }
}

function reporter(onProgress: ((event: ProgressEvent) => void) | undefined): Report {
  return (phase, fraction) => onProgress?.({ phase, fraction })
}

async function rerank(
  reranker: Reranker,
  prompt: string,
  images: readonly GeneratedImage[],
  best: number,
  signal: AbortSignal | undefined,
  report: Report,
): Promise<GeneratedImage[]> {
  const scores = checkScores(await reranker.score(prompt, images, { signal }), images)
  report('rerank', 1)
  return images
    .map((image, i) => image.withScore(scores[i]!))
    .sort((a, b) => b.score! - a.score! || a.candidate - b.candidate)
    .slice(0, best)
}

/** An unfinished grid, its last token repeated to the end: the decoder needs all of them, and this blends best at the edge. */
function continued(tokens: Int32Array, drawn: number): Int32Array {
  return tokens.map((token, p) => (p < drawn ? token : tokens[drawn - 1]!))
}

/** What is below `share` of the height turns grey. */
function curtain(image: RgbImage, share: number): RgbImage {
  const pixels = image.pixels.slice()
  pixels.fill(grey, Math.round(image.height * share) * image.width * 3)
  return { ...image, pixels }
}
