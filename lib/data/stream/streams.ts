import { expectInteger, expectOneOf, outOfRange, rejectUnknownKeys } from '../../validate.ts'
import { IMAGE_FITS, type ImageFit } from '../image.ts'
import type { ImageTextPair } from '../pairs.ts'
import type { CodeSample, ImageSample, SampleSource } from '../sources/sample.ts'
import { ImageReader } from './image-reader.ts'
import type { WeightedSource } from './mixer.ts'
import { SampleStream, STREAM_OPTION_KEYS, type StreamOptions } from './sample-stream.ts'

/** Options of {@link streamPairs}. */
export interface PairStreamOptions extends StreamOptions {
  /** Side of the square pictures, in pixels. */
  size: number
  /** How pictures that are not square become so; `cover` unless given. */
  fit?: ImageFit
  /** Bytes of decoded pictures to keep, those that come first; none unless given. */
  cacheBytes?: number
}

/** A stream of pictures with their captions. */
export type PairStream = SampleStream<ImageTextPair, ImageSample>

/** A stream of codes with their captions. */
export type CodeStream = SampleStream<CodeSample, CodeSample>

/** Streams pictures, decoded on other threads while earlier ones are in use. */
export function streamPairs(
  sources: readonly WeightedSource<SampleSource<'images'>>[],
  options: PairStreamOptions,
): PairStream {
  rejectUnknownKeys('streamPairs options', options, [...STREAM_OPTION_KEYS, 'size', 'fit', 'cacheBytes'])
  const { size, fit, cacheBytes, ...rest } = options
  const reader = new ImageReader(
    expectInteger('size', size, { min: 1, max: 8192 }),
    expectOneOf('fit', fit ?? 'cover', IMAGE_FITS),
    expectInteger('cacheBytes', cacheBytes ?? 0, { min: 0 }),
  )
  const stream: PairStream = new SampleStream(sources, rest, ({ sample, source, shard }) =>
    reader.read(sample, `${source}/${shard}/${sample.index}`),
  )
  expectKind(sources, 'images')
  return stream
}

/** Streams codes, which need no image tokenizer any more. */
export function streamCodes(
  sources: readonly WeightedSource<SampleSource<'codes'>>[],
  options: StreamOptions,
): CodeStream {
  rejectUnknownKeys('streamCodes options', options, STREAM_OPTION_KEYS)
  const stream: CodeStream = new SampleStream(sources, options, async ({ sample }) => sample)
  expectKind(sources, 'codes')
  return stream
}

function expectKind(sources: readonly WeightedSource[], kind: 'images' | 'codes'): void {
  for (const [i, { source }] of sources.entries()) {
    if (source.kind !== kind) throw outOfRange(`sources[${i}].source`, `a source of ${kind}`, source.kind)
  }
}
