import { encodePng, type RgbImage, upscaleNearest, writeFileWhole } from '../data/image.ts'
import { expectString, rejectUnknownKeys } from '../validate.ts'

/** A picture that a {@link Sampler} drew. */
export class GeneratedImage implements RgbImage {
  /** height x width x 3 bytes, RGB. */
  readonly pixels: Uint8Array
  readonly width: number
  readonly height: number
  /** Its image tokens in raster order, grid x grid. */
  readonly tokens: Int32Array
  /** log P(tokens | prompt): the sum over all tokens, before temperature and filters. */
  readonly logProbability: number
  /** Which candidate of its call it is, from 0. */
  readonly candidate: number
  /** The seed of its call: the same seed, prompt, options and candidate give the same tokens. */
  readonly seed: number
  /** What the reranker gave it; higher is better. Undefined where nothing was reranked. */
  readonly score: number | undefined

  /** @internal */
  constructor(fields: {
    image: RgbImage
    tokens: Int32Array
    logProbability: number
    candidate: number
    seed: number
    score?: number | undefined
  }) {
    this.pixels = fields.image.pixels
    this.width = fields.image.width
    this.height = fields.image.height
    this.tokens = fields.tokens
    this.logProbability = fields.logProbability
    this.candidate = fields.candidate
    this.seed = fields.seed
    this.score = fields.score
  }

  /** @internal */
  withScore(score: number): GeneratedImage {
    return new GeneratedImage({ ...this, image: this, score })
  }

  /** The bytes of a PNG file; enlarged pixel by pixel by the whole factor `scale` (1 unless given). */
  async png(options: { scale?: number } = {}): Promise<Buffer> {
    rejectUnknownKeys('png options', options, ['scale'])
    const { scale = 1 } = options
    return encodePng(scale === 1 ? this : upscaleNearest(this, scale))
  }

  /** Writes a PNG file: the whole file or, on an error (`ERR_VILG_IO`), nothing. */
  async toFile(path: string, options: { scale?: number } = {}): Promise<void> {
    await writeFileWhole(expectString('path', path), await this.png(options))
  }
}

/** A description that a {@link Sampler} gave. */
export interface GeneratedText {
  text: string
  /** Token ids without CLS and SEP; at least one. */
  tokens: Int32Array
  /**
   * log P(tokens | image), the sum over all tokens and the SEP that ended them, before temperature and filters. Of each it is the share among
   * the tokens that may come there: none that shows in no text (PAD, CLS, UNK and other special ones), and SEP not as the first. So it is
   * conditional on a text that is not empty, and the probability with which sampling at temperature 1 gives this one.
   */
  logProbability: number
  /** False where the text was cut at the model's text length. */
  ended: boolean
}
