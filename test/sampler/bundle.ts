import type { ExecutionContext } from 'ava'
import {
  type Device,
  ErnieVilg,
  type GeneratorConfig,
  type ImageEvent,
  ImageTokenizer,
  Matcher,
  type RgbImage,
  type SamplingDefaults,
  type Task,
  TextTokenizer,
} from '../../lib/index.ts'
import { lively } from '../model/helpers.ts'

/** Characters that the text tokenizer of {@link tinyBundle} knows. */
export const characters = [...'红绿蓝苹果叶子大小的猫狗']

export interface TinyBundleOptions {
  generator?: Partial<GeneratorConfig>
  /** Added to the scores of text tokens, by id. */
  likely?: Record<number, number>
  textTokenizer?: TextTokenizer
  precision?: 'float32' | 'bfloat16'
  device?: Device
  samplingDefaults?: SamplingDefaults
  trainedFor?: Task[]
  /** With a matcher, untrained. */
  matcher?: boolean
}

/** A random model that is quick to run, whose distributions are far from uniform: pictures of 8 x 8 pixels from 4 x 4 tokens. */
export async function tinyBundle(t: ExecutionContext, options: TinyBundleOptions = {}): Promise<ErnieVilg> {
  const {
    generator: changes,
    precision = 'float32',
    device = 'cpu',
    likely = {},
    matcher: hasMatcher = false,
    textTokenizer = TextTokenizer.fromVocabulary([
      '[PAD]',
      '[UNK]',
      '[CLS]',
      '[SEP]',
      '[MASK]',
      ...characters,
    ]),
    ...info
  } = options
  const codes = 23
  const generator = await lively(
    t,
    {
      textVocab: textTokenizer.vocabSize,
      imageVocab: codes,
      textLength: 10,
      grid: 4,
      ...changes,
    },
    { precision, device, likely },
  )
  const imageTokenizer = await ImageTokenizer.create(
    {
      quantizer: 'nearest',
      resolution: 8,
      channels: 32,
      multipliers: [1, 1],
      residualBlocks: 1,
      attentionResolutions: [],
      latentChannels: 8,
      codebookSize: codes,
      codebookDim: 4,
    },
    { seed: 3, precision, device },
  )
  const matcher = hasMatcher
    ? await Matcher.create(
        {
          layers: 2,
          hidden: 16,
          heads: 2,
          textVocab: textTokenizer.vocabSize,
          imageVocab: codes,
          textLength: 10,
          grid: 4,
          kernel: 3,
          dim: 8,
        },
        { seed: 4, precision, device },
      )
    : undefined
  const parts = { generator, imageTokenizer, textTokenizer, ...(matcher ? { matcher } : {}) }
  const model = ErnieVilg.create({ ...parts, name: 'tiny', ...info })
  t.teardown(() => model.dispose())
  return model
}

/** A picture with a gradient, the same for the same number. */
export function picture(number: number, side = 8): RgbImage {
  const pixels = Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * (number + 1) * 7) % 256)
  return { pixels, width: side, height: side }
}

/** What is the same for two candidates only if all of them is. */
export function essence({ tokens, logProbability, pixels }: ImageEssence): string {
  return `${tokens.join()} ${logProbability} ${Buffer.from(pixels).toString('base64')}`
}
interface ImageEssence {
  tokens: Int32Array
  logProbability: number
  pixels: Uint8Array
}

/** All events of a stream. */
export async function allEvents(stream: AsyncIterable<ImageEvent>): Promise<ImageEvent[]> {
  const events: ImageEvent[] = []
  for await (const event of stream) events.push(event)
  return events
}
