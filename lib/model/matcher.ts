import type { NativeMatcher } from '../../types/native-models.d.ts'
import { native } from '../native/binding.ts'
import { checkSignal } from '../native/call.ts'
import { expectNumber, expectTypedArray, outOfRange, rejectUnknownKeys } from '../validate.ts'
import { type Calibration, fitCalibration, scoreOf } from './calibration.ts'
import { checkMatcherConfig, type MatcherConfig, nativeMatcherConfig } from './matcher-config.ts'
import { type CallSignal, type CreateOptions, type LoadOptions, Model } from './model.ts'
import { createModel, loadModel, type ModelKind } from './open-model.ts'
import { checkIds, checkTexts, checkPairBatch, type TextBatch, type TokenBatch } from './token-batch.ts'

/** What {@link Matcher.compare} gives. */
export interface Comparison {
  /** InfoNCE in nats, the mean of both directions (Radford et al. 2021, figure 3). */
  loss: number
  /** The share of pictures that are nearer to their own text than to any other, in [0, 1]. */
  imageToTextAccuracy: number
  /** The share of texts that are nearer to their own picture than to any other. */
  textToImageAccuracy: number
  /** What cosines are divided by to be logits. It is learned: 0.07 at first, 0.01 at least. */
  temperature: number
}

const kind: ModelKind<Readonly<Required<MatcherConfig>>, NativeMatcher> = {
  check: checkMatcherConfig,
  create: (config, options, seed, control) =>
    native().createMatcher(nativeMatcherConfig(config), options, seed, control),
  load: (config, options, weights, control) =>
    native().loadMatcher(nativeMatcherConfig(config), options, weights, control),
}

/** Texts that a picture is compared with to calibrate, at most. */
const strangersOfEach = 16

/**
 * Says how well pictures and texts go together: a dual encoder (Radford et al. 2021) of two transformers with the generator's blocks. Takes the part of the
 * paper's image-text matcher, which filters its data (ERNIE-ViLG 3.2.1) and chooses among what it draws (4.2), and is not published.
 *
 * Pictures are tokens of an image tokenizer. Each half becomes a vector of unit length; calls on one matcher run one after the other.
 *
 * ```ts
 * await using matcher = await Matcher.load('models/emoji/matcher')
 * const [cosine] = await matcher.similarity(imageTokens, textTokenizer.encode('红苹果', { length: matcher.config.textLength }))
 * ```
 */
export class Matcher extends Model<MatcherConfig, NativeMatcher> {
  private constructor(config: Readonly<Required<MatcherConfig>>, handle: NativeMatcher) {
    super('Matcher', config, handle)
  }

  /**
   * A fresh matcher, its weights as those of a fresh generator and a temperature of 0.07.
   *
   * @throws ERR_VILG_INVALID_ARGUMENT; ERR_VILG_OUT_OF_MEMORY before anything is allocated, with the bytes needed and there;
   *   ERR_VILG_UNSUPPORTED for devices and precisions that this build does not have
   */
  static async create(config: MatcherConfig, options: CreateOptions = {}): Promise<Matcher> {
    return new Matcher(...(await createModel(kind, config, options)))
  }

  /**
   * Loads `config.json` and `weights.safetensors` of a folder. Weights may be stored as F32, BF16 or F16.
   *
   * @throws ERR_VILG_IO where a file cannot be read; ERR_VILG_CHECKPOINT_FORMAT where one is damaged; ERR_VILG_CHECKPOINT_INCOMPATIBLE
   *   where the config is not that of a matcher, or the weights are not those of the config, with tensor, expected and found;
   *   ERR_VILG_OUT_OF_MEMORY; ERR_VILG_UNSUPPORTED
   */
  static async load(folder: string, options: LoadOptions = {}): Promise<Matcher> {
    return new Matcher(...(await loadModel(kind, folder, options)))
  }

  /**
   * The vectors of pictures.
   *
   * @param image B x n tokens, 0 to imageVocab - 1
   * @returns B x dim, each of unit length
   * @throws ERR_VILG_SHAPE_MISMATCH; ERR_VILG_INVALID_ARGUMENT for ids out of range, detached and shared arrays; ERR_VILG_DISPOSED
   */
  async embedImage(image: Int32Array, options: CallSignal = {}): Promise<Float32Array> {
    checkCall('embedImage', options)
    const n = this.config.grid ** 2
    const tokens = expectTypedArray('image', image, Int32Array).slice()
    if (tokens.length === 0 || tokens.length % n !== 0) {
      throw outOfRange('image', `B x ${n} ids`, image, 'ERR_VILG_SHAPE_MISMATCH')
    }
    checkIds('image', tokens, this.config.imageVocab)
    return this.call(options.signal, (handle, control) =>
      handle.embedImages(tokens, tokens.length / n, control),
    )
  }

  /**
   * The vectors of texts.
   *
   * @param texts B x textLength tokens as `TextTokenizer.encode` gives them for that length; one or several
   * @returns B x dim, each of unit length
   * @throws ERR_VILG_SHAPE_MISMATCH; ERR_VILG_INVALID_ARGUMENT for ids out of range, detached and shared arrays; ERR_VILG_DISPOSED
   */
  async embedText(texts: TextBatch, options: CallSignal = {}): Promise<Float32Array> {
    checkCall('embedText', options)
    const [text, valid, count] = checkTexts(texts, this.config)
    return this.call(options.signal, (handle, control) => handle.embedTexts(text, valid, count, control))
  }

  /**
   * The cosine of every picture with every text, in [-1, 1].
   *
   * @param image B x n tokens
   * @param texts C x textLength tokens
   * @returns B x C, row-major; {@link score} makes scores of them
   * @throws the errors of {@link embedImage} and {@link embedText}
   */
  async similarity(image: Int32Array, texts: TextBatch, options: CallSignal = {}): Promise<Float32Array> {
    checkCall('similarity', options)
    const [images, captions] = await Promise.all([
      this.embedImage(image, options),
      this.embedText(texts, options),
    ])
    const { dim } = this.config
    const [rows, columns] = [images.length / dim, captions.length / dim]
    const cosines = new Float32Array(rows * columns)
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) {
        cosines[i * columns + j] = cosineOf(images, i, captions, j, dim)
      }
    }
    return cosines
  }

  /** The score of a cosine, in (0, 1); above 0.5 for what rather belongs together, once the matcher is calibrated ({@link calibrate}). */
  score(cosine: number): number {
    return scoreOf(expectNumber('cosine', cosine), this.config.calibration)
  }

  /**
   * Compares all pairs of a batch with each other: how well each half finds its other one. Pairs with the same picture or the same caption are
   * left out of each other's comparison.
   *
   * @param batch at most 8192 pairs
   * @throws ERR_VILG_SHAPE_MISMATCH; ERR_VILG_INVALID_ARGUMENT; ERR_VILG_DISPOSED
   */
  async compare(batch: TokenBatch, options: CallSignal = {}): Promise<Comparison> {
    checkCall('compare', options)
    const arguments_ = checkPairBatch(batch, this.config)
    return this.call(options.signal, (handle, control) => handle.compare(...arguments_, control))
  }

  /**
   * Sets `config.calibration` from pairs that the matcher was not trained on, at best: at a score of 0.5 a picture and a text are as likely to
   * belong together as not, where half of all do. Training moves cosines, so it comes after it; {@link save} writes it with the config.
   *
   * @param batch at least two pairs that differ in picture and caption
   * @returns the new calibration
   * @throws ERR_VILG_INVALID_ARGUMENT where no two pairs differ, or their cosines are no larger than those of strangers; the errors of
   *   {@link embedImage} and {@link embedText}
   */
  async calibrate(batch: TokenBatch, options: CallSignal = {}): Promise<Calibration> {
    checkCall('calibrate', options)
    const [text, textValid, image, pairs] = checkPairBatch(batch, this.config)
    const [images, texts] = await Promise.all([
      this.embedImage(image, options),
      this.embedText({ text, textValid }, options),
    ])
    const { dim, grid, textLength } = this.config
    const keys = Array.from({ length: pairs }, (_, i) => ({
      image: image.subarray(i * grid ** 2, (i + 1) * grid ** 2).join(),
      text: text
        .subarray(i * textLength, (i + 1) * textLength)
        .filter((_, j) => textValid[i * textLength + j] === 1)
        .join(),
    }))
    const matches = keys.map((_, i) => cosineOf(images, i, texts, i, dim))
    const others: number[] = []
    for (let i = 0; i < pairs; i++) {
      for (let away = 1; away <= Math.min(strangersOfEach, pairs - 1); away++) {
        const j = (i + away) % pairs
        if (keys[i]!.image === keys[j]!.image || keys[i]!.text === keys[j]!.text) continue
        others.push(cosineOf(images, i, texts, j, dim))
      }
    }
    if (others.length === 0) throw outOfRange('batch', 'pairs that differ in picture and caption', batch)
    const calibration = fitCalibration(matches, others)
    if (calibration === undefined) {
      const expected = 'pairs whose cosines are above those of strangers (train the matcher first)'
      throw outOfRange('batch', expected, batch)
    }
    this.replaceConfig(Object.freeze({ ...this.config, calibration }))
    return calibration
  }
}

function checkCall(method: string, options: CallSignal): void {
  rejectUnknownKeys(`${method} options`, options, ['signal'])
  checkSignal(options.signal)
}

/** Of rows of unit length. */
function cosineOf(a: Float32Array, i: number, b: Float32Array, j: number, dim: number): number {
  let sum = 0
  for (let d = 0; d < dim; d++) sum += a[i * dim + d]! * b[j * dim + d]!
  return sum
}
