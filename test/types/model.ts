// Compiled by npm run check:types, never run: what the public types promise, and what they refuse.
import {
  type Device,
  type Direction,
  ErnieVilg,
  type ForwardResult,
  Generator,
  type GeneratorConfig,
  ImageTokenizer,
  type DvaeConfig,
  Matcher,
  type MatcherConfig,
  type MatcherStep,
  Trainer,
  type VqganConfig,
  type Precision,
  preset,
  TextTokenizer,
  type TokenBatch,
} from '../../lib/index.ts'
import type { Equal, Expect } from './helpers.ts'

declare const config: GeneratorConfig
declare const batch: TokenBatch
declare const matcherConfig: MatcherConfig
declare const generator: Generator
declare const imageTokenizer: ImageTokenizer
declare const textTokenizer: TextTokenizer

export type Positive = [
  Expect<Equal<Direction, 'text-to-image' | 'image-to-text'>>,
  Expect<Equal<Device, 'auto' | 'cpu' | 'cuda' | `cuda:${number}`>>,
  Expect<Equal<Precision, 'float32' | 'bfloat16' | 'float16'>>,
  Expect<
    Equal<
      TokenBatch,
      { text: Int32Array; textValid: Uint8Array; image: Int32Array; textTarget?: Uint8Array | undefined }
    >
  >,
  Expect<Equal<Awaited<ReturnType<typeof Generator.create>>, Generator>>,
  Expect<Equal<Awaited<ReturnType<typeof Generator.load>>, Generator>>,
  Expect<Equal<Awaited<ReturnType<Generator['forward']>>, ForwardResult>>,
  Expect<Equal<ForwardResult['shape'], [batch: number, positions: number, vocab: number]>>,
  Expect<
    Equal<Awaited<ReturnType<Generator['gradients']>>, { loss: number; gradients: Map<string, Float32Array> }>
  >,
  Expect<Equal<Generator['parameterCount'], number>>,
  Expect<Equal<Generator['device'], string>>,
  Expect<Equal<ReturnType<Generator['save']>, Promise<void>>>,
  Expect<Equal<ReturnType<Generator['dispose']>, Promise<void>>>,
  Expect<Equal<ReturnType<Generator[typeof Symbol.asyncDispose]>, Promise<void>>>,
  Expect<
    Equal<Awaited<ReturnType<ImageTokenizer['encode']>>, { indices: Int32Array; prequant: Float32Array }>
  >,
  Expect<Equal<Awaited<ReturnType<ImageTokenizer['decode']>>, Float32Array>>,
  Expect<Equal<Awaited<ReturnType<typeof ErnieVilg.load>>, ErnieVilg>>,
  Expect<Equal<Parameters<typeof ErnieVilg.load>[0], string | undefined>>,
  Expect<Equal<Awaited<ReturnType<typeof Matcher.create>>, Matcher>>,
  Expect<Equal<ErnieVilg['matcher'], Matcher | undefined>>,
  Expect<Equal<Trainer<MatcherStep>['target'], Matcher>>,
  Expect<Equal<ReturnType<typeof preset<'ernie-vilg-10b'>>, GeneratorConfig>>,
  Expect<Equal<ReturnType<typeof preset<'vqgan-f8-8192'>>, VqganConfig>>,
  Expect<Equal<ReturnType<typeof preset<'dvae-f8-8192'>>, DvaeConfig>>,
]

export async function compiles(signal: AbortSignal): Promise<void> {
  await using one = await Generator.create(config, { device: 'cpu', precision: 'bfloat16', seed: 1, signal })
  await one.forward(batch, { direction: 'text-to-image', signal })
  await Generator.create({ ...preset('ernie-vilg-300m'), textVocab: textTokenizer.vocabSize })
  await imageTokenizer.encode(new Float32Array(3), { count: 1, signal })
  ErnieVilg.create({ generator, imageTokenizer, textTokenizer, name: 'mine' })
  const matcher = await Matcher.create(matcherConfig, { seed: 1 })
  for await (const step of new Trainer(matcher).fit(
    (async function* () {
      yield batch
    })(),
  )) {
    step.imageToTextAccuracy.toFixed()
    // @ts-expect-error a matcher's step has no loss of a direction
    step.textToImage
  }
}

export async function refuses(): Promise<void> {
  // @ts-expect-error models are made by create and load
  new Generator(config)
  // @ts-expect-error a direction is needed
  await generator.forward(batch)
  // @ts-expect-error no such direction
  await generator.forward(batch, { direction: 'text-to-text' })
  // @ts-expect-error no such option
  await generator.forward(batch, { direction: 'text-to-image', batch: 2 })
  // @ts-expect-error plain arrays are no tokens
  await generator.forward({ ...batch, text: [1, 2] }, { direction: 'text-to-image' })
  // @ts-expect-error a field is missing
  await Generator.create({ layers: 2, hidden: 8, heads: 1 })
  // @ts-expect-error no such field
  await Generator.create({ ...config, depth: 3 })
  // @ts-expect-error no such device
  await Generator.create(config, { device: 'gpu' })
  // @ts-expect-error the oracle is for tests
  await Generator.create(config, { device: 'ref' })
  // @ts-expect-error loading needs no seed
  await Generator.load('folder', { seed: 1 })
  // @ts-expect-error what it is does not change
  generator.config.layers = 3
  // @ts-expect-error pixels are float32 in [-1, 1]
  await imageTokenizer.encode(new Uint8Array(3))
  // @ts-expect-error no such preset
  preset('ernie-vilg-1b')
  // @ts-expect-error an image tokenizer is no generator's configuration
  await Generator.create(preset('vqgan-f8-8192'))
  // @ts-expect-error all three parts are needed
  ErnieVilg.create({ generator, imageTokenizer })
}
