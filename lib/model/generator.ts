import type { NativeGenerator } from '../../types/native-models.d.ts'
import { type Direction, DIRECTIONS } from '../kernels.ts'
import { native } from '../native/binding.ts'
import { checkSignal } from '../native/call.ts'
import { expectOneOf, rejectUnknownKeys } from '../validate.ts'
import { checkGeneratorConfig, type GeneratorConfig, nativeGeneratorConfig } from './generator-config.ts'
export type { GeneratorConfig } from './generator-config.ts'
import { type CallSignal, type CreateOptions, type LoadOptions, Model } from './model.ts'
import { createModel, loadModel, type ModelKind } from './open-model.ts'
import { checkTokenBatch, type TokenBatch } from './token-batch.ts'

/** Options of {@link Generator.forward} and {@link Generator.gradients}. */
export interface DirectionOptions extends CallSignal {
  /** Which half predicts the other: pictures from texts, or texts from pictures. */
  direction: Direction
}

/** What {@link Generator.forward} gives. */
export interface ForwardResult {
  /**
   * The scores before the softmax, row-major of `shape`. Text to image: B x n x imageVocab, row i predicts image token i. Image to text:
   * B x (M - 1) x textVocab, row j predicts text token j + 1; rows whose input is PAD mean nothing.
   */
  logits: Float32Array
  shape: [batch: number, positions: number, vocab: number]
  /** Mean of -log P over the tokens that count, in nats (ERNIE-ViLG eq. 4 and 5): all image tokens, or t1 .. SEP. */
  loss: number
  /** -log P of each row's token, B x positions; 0 for rows that predict PAD. */
  rowLosses: Float32Array
}

const kind: ModelKind<Readonly<Required<GeneratorConfig>>, NativeGenerator> = {
  check: checkGeneratorConfig,
  create: (config, options, seed, control) =>
    native().createGenerator(nativeGeneratorConfig(config), options, seed, control),
  load: (config, options, weights, control) =>
    native().loadGenerator(nativeGeneratorConfig(config), options, weights, control),
}

/**
 * The bidirectional transformer (ERNIE-ViLG 3.1.2): one set of weights that predicts pictures from texts and texts from pictures, token by
 * token. Calls on one generator run one after the other.
 *
 * ```ts
 * await using generator = await Generator.load('models/emoji/generator')
 * const { loss } = await generator.forward(batch, { direction: 'text-to-image' })
 * ```
 */
export class Generator extends Model<GeneratorConfig, NativeGenerator> {
  private constructor(config: Readonly<Required<GeneratorConfig>>, handle: NativeGenerator) {
    super('Generator', config, handle)
  }

  /**
   * A fresh generator: normal weights of standard deviation 0.02, those that add to the residual stream divided by sqrt(2 layers).
   *
   * @throws ERR_VILG_INVALID_ARGUMENT; ERR_VILG_OUT_OF_MEMORY before anything is allocated, with the bytes needed and there;
   *   ERR_VILG_UNSUPPORTED for devices and precisions that this build does not have
   */
  static async create(config: GeneratorConfig, options: CreateOptions = {}): Promise<Generator> {
    return new Generator(...(await createModel(kind, config, options)))
  }

  /**
   * Loads `config.json` and `weights.safetensors` of a folder. Weights may be stored as F32, BF16 or F16.
   *
   * @throws ERR_VILG_IO where a file cannot be read; ERR_VILG_CHECKPOINT_FORMAT where one is damaged; ERR_VILG_CHECKPOINT_INCOMPATIBLE
   *   where the config is not that of a generator, or the weights are not those of the config, with tensor, expected and found;
   *   ERR_VILG_OUT_OF_MEMORY; ERR_VILG_UNSUPPORTED
   */
  static async load(folder: string, options: LoadOptions = {}): Promise<Generator> {
    return new Generator(...(await loadModel(kind, folder, options)))
  }

  /**
   * Predicts every token of a batch from those before it, all at once.
   *
   * @throws ERR_VILG_SHAPE_MISMATCH for arrays of wrong lengths; ERR_VILG_INVALID_ARGUMENT for ids out of range, detached and shared
   *   arrays; ERR_VILG_DISPOSED
   */
  async forward(batch: TokenBatch, options: DirectionOptions): Promise<ForwardResult> {
    const { direction, signal } = checkDirection('forward options', options)
    const arguments_ = checkTokenBatch(batch, this.config)
    return this.call(signal, (handle, control) => handle.forward(...arguments_, direction, control))
  }

  /**
   * The gradient of the loss of {@link forward} by every weight, by name and in the layout of the checkpoint; 0 where nothing flows.
   * Does not disturb a trainer of this generator.
   *
   * @throws ERR_VILG_UNSUPPORTED for generators that are not float32; the errors of {@link forward}
   */
  async gradients(
    batch: TokenBatch,
    options: DirectionOptions,
  ): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    const { direction, signal } = checkDirection('gradients options', options)
    const arguments_ = checkTokenBatch(batch, this.config)
    const { loss, names, gradients } = await this.call(signal, (handle, control) =>
      handle.gradients(...arguments_, direction, control),
    )
    return { loss, gradients: new Map(names.map((name, i) => [name, gradients[i]!])) }
  }
}

function checkDirection(name: string, options: DirectionOptions): DirectionOptions {
  rejectUnknownKeys(name, options, ['direction', 'signal'])
  checkSignal(options?.signal)
  return { direction: expectOneOf('direction', options?.direction, DIRECTIONS), signal: options.signal }
}
