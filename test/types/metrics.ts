// Compiled by npm run check:types, never run: what the public types of ernie-vilg/metrics promise, and what they refuse.
import {
  type CaptionMetric,
  evaluateCaptions,
  type FeatureExtractor,
  FeatureStatistics,
  frechetDistance,
  type Gaussian,
  imageStatistics,
  loadInception,
  rPrecision,
} from '../../lib/metrics/index.ts'
import type { Equal, Expect } from './helpers.ts'

declare const gaussian: Gaussian
declare const extractor: FeatureExtractor

export type Positive = [
  Expect<Equal<CaptionMetric, 'bleu' | 'meteor' | 'rougeL' | 'cider' | 'ciderD'>>,
  Expect<Equal<Awaited<ReturnType<FeatureStatistics['gaussian']>>, Gaussian>>,
  Expect<Equal<Awaited<ReturnType<typeof frechetDistance>>, number>>,
  Expect<Equal<Awaited<ReturnType<typeof imageStatistics>>, FeatureStatistics>>,
]

export async function compiles(signal: AbortSignal): Promise<void> {
  const { corpus } = await evaluateCaptions([{ candidate: '红', references: ['红'] }], {
    tokens: 'characters',
    signal,
  })
  corpus.bleu?.[3].toFixed(2)
  corpus.ciderD?.toFixed(2)
  await using inception = await loadInception('inception.onnx', { threads: 2 })
  await imageStatistics(['a.png', new URL('file:///b.png')], inception, { batch: 4 })
  await rPrecision([{ image: 1, caption: 'a' }], (image: number, captions) => captions.map(() => image))
}

export async function refuses(): Promise<void> {
  // @ts-expect-error SPICE is not there
  await evaluateCaptions([], { metrics: ['spice'] })
  // @ts-expect-error references are a list
  await evaluateCaptions([{ candidate: 'a', references: 'a' }])
  // @ts-expect-error no such kind of tokens
  await evaluateCaptions([], { tokens: 'letters' })
  // @ts-expect-error features are typed arrays
  await new FeatureStatistics(2).add([1, 2])
  // @ts-expect-error statistics have to be finished first
  await frechetDistance(new FeatureStatistics(2), gaussian)
  // @ts-expect-error an extractor is needed
  await imageStatistics(['a.png'])
  // @ts-expect-error what it is does not change
  extractor.dimensions = 3
}
