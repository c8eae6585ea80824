import type {
  NativeImageTokenizer,
  NativeTokenizerLosses,
  NativeTokenizerLossWeights,
} from '../../types/native-models.d.ts'
import { native } from '../native/binding.ts'
import { checkSignal } from '../native/call.ts'
import { expectInteger, expectNumber, expectTypedArray, outOfRange, rejectUnknownKeys } from '../validate.ts'
import {
  checkImageTokenizerConfig,
  decodedSideOf,
  type ImageTokenizerConfig,
  nativeImageTokenizerConfig,
  reductionOf,
} from './image-tokenizer-config.ts'
export type { ImageTokenizerConfig } from './image-tokenizer-config.ts'
import { type CallSignal, type CreateOptions, type LoadOptions, Model } from './model.ts'
import { createModel, loadModel, type ModelKind } from './open-model.ts'
import { checkIds } from './token-batch.ts'

/** Options of {@link ImageTokenizer.encode} and {@link ImageTokenizer.decode}. */
export interface CountOptions extends CallSignal {
  /** Pictures in the array; what its length says unless given. */
  count?: number
}

/** Losses of an image tokenizer (ERNIE-ViLG eq. 1, as means), before their weights; `total` with them. */
export type ImageTokenizerLosses = NativeTokenizerLosses

/** Options of {@link ImageTokenizer.gradients}. */
export interface ImageTokenizerGradientsOptions extends CountOptions {
  /** 1 each, but 0 for `absolute`, unless given (ERNIE-ViLG eq. 1). */
  weights?: Partial<NativeTokenizerLossWeights>
}

const defaultWeights: Readonly<NativeTokenizerLossWeights> = Object.freeze({
  reconstruction: 1,
  absolute: 0,
  commitment: 1,
  codebook: 1,
})

const kind: ModelKind<Readonly<Required<ImageTokenizerConfig>>, NativeImageTokenizer> = {
  check: checkImageTokenizerConfig,
  create: (config, options, seed, control) =>
    native().createImageTokenizer(nativeImageTokenizerConfig(config), options, seed, control),
  load: (config, options, weights, control) =>
    native().loadImageTokenizer(nativeImageTokenizerConfig(config), options, weights, control),
}

/**
 * Turns pictures into tokens and back: a VQGAN (ERNIE-ViLG 3.1.1) or DALL-E's discrete VAE, by its config. Pictures are B x 3 x S x S
 * float32, planar red, green and blue in [-1, 1], S the `resolution` of the config; tokens are B x n, n = {@link grid}^2, in raster order. Calls on one tokenizer run one
 * after the other.
 */
export class ImageTokenizer extends Model<ImageTokenizerConfig, NativeImageTokenizer> {
  /** Tokens a side of a picture. */
  readonly grid: number
  /** Side of the pictures of {@link decode}: the `resolution`, and twice that where the decoder gives wavelets. */
  readonly decodedSide: number

  private constructor(config: Readonly<Required<ImageTokenizerConfig>>, handle: NativeImageTokenizer) {
    super('ImageTokenizer', config, handle)
    this.grid = config.resolution / reductionOf(config)
    this.decodedSide = decodedSideOf(config)
  }

  /**
   * A fresh image tokenizer.
   *
   * @throws ERR_VILG_INVALID_ARGUMENT; ERR_VILG_OUT_OF_MEMORY before anything is allocated, with the bytes needed and there;
   *   ERR_VILG_UNSUPPORTED for devices, precisions and kinds of tokenizers that this build does not have
   */
  static async create(config: ImageTokenizerConfig, options: CreateOptions = {}): Promise<ImageTokenizer> {
    return new ImageTokenizer(...(await createModel(kind, config, options)))
  }

  /**
   * Loads `config.json` and `weights.safetensors` of a folder. Weights may be stored as F32, BF16 or F16.
   *
   * @throws ERR_VILG_IO where a file cannot be read; ERR_VILG_CHECKPOINT_FORMAT where one is damaged; ERR_VILG_CHECKPOINT_INCOMPATIBLE
   *   where the config is not that of an image tokenizer, or the weights are not those of the config, with tensor, expected and found;
   *   ERR_VILG_OUT_OF_MEMORY; ERR_VILG_UNSUPPORTED
   */
  static async load(folder: string, options: LoadOptions = {}): Promise<ImageTokenizer> {
    return new ImageTokenizer(...(await loadModel(kind, folder, options)))
  }

  /**
   * Pictures to tokens.
   *
   * @param images B x 3 x S x S in [-1, 1]
   * @returns `indices` B x n, and `prequant` B x D x n: what the codes were chosen by, the encoder's vectors of a vqgan (D is its
   *   codebookDim), the logits of a dvae (D is its codebookSize)
   * @throws ERR_VILG_SHAPE_MISMATCH; ERR_VILG_INVALID_ARGUMENT for values that are not finite, detached and shared arrays;
   *   ERR_VILG_DISPOSED
   */
  async encode(
    images: Float32Array,
    options: CountOptions = {},
  ): Promise<{ indices: Int32Array; prequant: Float32Array }> {
    rejectUnknownKeys('encode options', options, ['count', 'signal'])
    const [pictures, count] = this.#checkImages(images, options)
    return this.call(options.signal, (handle, control) => handle.encode(pictures, count, control))
  }

  /**
   * Tokens to pictures.
   *
   * @param indices B x n, 0 to codebookSize - 1
   * @returns B x 3 x S x S, S the {@link decodedSide}; the network of a vqgan may leave [-1, 1], which is not clamped
   * @throws ERR_VILG_SHAPE_MISMATCH; ERR_VILG_INVALID_ARGUMENT for ids out of range, detached and shared arrays; ERR_VILG_DISPOSED
   */
  async decode(indices: Int32Array, options: CountOptions = {}): Promise<Float32Array> {
    rejectUnknownKeys('decode options', options, ['count', 'signal'])
    checkSignal(options.signal)
    const given = expectTypedArray('indices', indices, Int32Array)
    const count = checkCount('indices', given.length, this.grid ** 2, options.count)
    checkIds('indices', given, this.config.codebookSize)
    const ids = given.slice()
    return this.call(options.signal, (handle, control) => handle.decode(ids, count, control))
  }

  /**
   * The losses of pictures, and the gradient of their weighted sum by every weight, by name and in the layout of the checkpoint; straight
   * through the quantizer. Does not disturb a trainer of this tokenizer.
   *
   * @throws ERR_VILG_UNSUPPORTED for tokenizers that are not float32 or not a vqgan of the nearest quantizer; the errors of {@link encode}
   */
  async gradients(
    images: Float32Array,
    options: ImageTokenizerGradientsOptions = {},
  ): Promise<{ losses: ImageTokenizerLosses; gradients: Map<string, Float32Array> }> {
    rejectUnknownKeys('gradients options', options, ['count', 'weights', 'signal'])
    const [pictures, count] = this.#checkImages(images, options)
    const weights = checkWeights(options.weights)
    const { losses, names, gradients } = await this.call(options.signal, (handle, control) =>
      handle.gradients(pictures, count, weights, control),
    )
    return { losses, gradients: new Map(names.map((name, i) => [name, gradients[i]!])) }
  }

  /** A copy, as the caller may change the array before the model comes to it. */
  #checkImages(images: unknown, options: CountOptions): [images: Float32Array, count: number] {
    checkSignal(options.signal)
    const given = expectTypedArray('images', images, Float32Array)
    const count = checkCount('images', given.length, 3 * this.config.resolution ** 2, options.count)
    for (let i = 0; i < given.length; i++) {
      if (!Number.isFinite(given[i])) throw outOfRange(`images[${i}]`, 'a finite number', given[i])
    }
    return [given.slice(), count]
  }
}

/** How many pictures an array holds. */
function checkCount(name: string, length: number, each: number, given: number | undefined): number {
  const count = given === undefined ? length / each : expectInteger('count', given, { min: 1, max: 2 ** 24 })
  if (count < 1 || length !== Math.trunc(count) * each) {
    const expected = given === undefined ? `a multiple of ${each} elements` : `${count} x ${each} elements`
    throw outOfRange(name, expected, length, 'ERR_VILG_SHAPE_MISMATCH')
  }
  return count
}

function checkWeights(given: Partial<NativeTokenizerLossWeights> = {}): NativeTokenizerLossWeights {
  rejectUnknownKeys('weights', given, Object.keys(defaultWeights))
  const weights = { ...defaultWeights }
  for (const key of Object.keys(defaultWeights) as (keyof NativeTokenizerLossWeights)[]) {
    weights[key] = expectNumber(`weights.${key}`, given[key] ?? defaultWeights[key], { min: 0, max: 1e30 })
  }
  return weights
}
