import { pixelsToTensor } from '../../data/image.ts'
import type { CodeSample, Sample } from '../../data/sources/sample.ts'
import type { SampleStream, Streamed, StreamState } from '../../data/stream/sample-stream.ts'
import type { CodeStream, PairStream } from '../../data/stream/streams.ts'
import type { GeneratorBatch } from '../generator-learner.ts'
import type { ImageTokenizerBatch } from '../picture-learner.ts'
import type { RunBatches } from '../run.ts'
import { chooseCaption, choices, joinRows, mirrorSome, type TokenRow } from './batches.ts'
import type { CaptionOptions } from './training-data.ts'

/** Endless batches of pictures of a stream, half of them mirrored. */
export function streamImageBatches(
  stream: PairStream,
  { batch, seed }: { batch: number; seed: number },
): RunBatches<ImageTokenizerBatch> {
  const mirror = choices(seed)
  return batchesOf(stream, batch, (part) => ({
    images: pixelsToTensor(part.map(({ item, position }) => mirrorSome(item, mirror.at(position)))),
  }))
}

/** Endless batches of codes of a stream, each picture with one of its captions. */
export function streamTokenBatches(
  stream: CodeStream,
  {
    batch,
    seed,
    nameShare,
    ...captions
  }: CaptionOptions & { batch: number; seed: number; nameShare: number },
): RunBatches<GeneratorBatch> {
  const choice = choices(seed)
  return batchesOf(stream, batch, (part) =>
    joinRows(
      part.map(({ item, position }) =>
        tokenRow(
          item,
          chooseCaption(item.captions.length, nameShare, choice.at(position) / 2 ** 32),
          captions,
        ),
      ),
    ),
  )
}

/** A sample with one of its captions as tokens. */
export function tokenRow(
  { captions, codes }: CodeSample,
  caption: number,
  { tokenizer, textLength }: CaptionOptions,
): TokenRow {
  return { ...tokenizer.encode(captions[caption]!, { length: textLength, truncate: true }), image: codes }
}

function batchesOf<Item, S extends Sample, Batch>(
  stream: SampleStream<Item, S>,
  size: number,
  join: (part: Streamed<Item>[]) => Batch,
): RunBatches<Batch> & { state(): StreamState | undefined } {
  return {
    // behind the last batch: nothing is taken from the stream before the next one is asked for
    state: () => stream.state(),
    async *[Symbol.asyncIterator]() {
      let part: Streamed<Item>[] = []
      for await (const one of stream) {
        part.push(one)
        if (part.length < size) continue
        yield join(part)
        part = []
      }
    },
  }
}
