import { epochOrder } from '../random.ts'
import type { SourcePosition } from '../codes/code-index.ts'
import {
  type BrokenSample,
  isBroken,
  type Sample,
  type SampleOf,
  type SampleSource,
  type SourceKind,
} from '../sources/sample.ts'
import { isInPart, type StreamPart } from './held-out.ts'

/** The samples of a source once, in their order, from a position on; each with the position behind it. */
export async function* samplesInOrder<Kind extends SourceKind>(
  source: SampleSource<Kind>,
  from: SourcePosition,
): AsyncGenerator<{ sample: SampleOf<Kind> | BrokenSample; end: SourcePosition }, void, undefined> {
  for (let { shard, index } = from; shard < source.shards; shard++, index = 0) {
    for await (const sample of source.read(shard, index)) {
      yield { sample, end: { shard, index: sample.index + 1 } }
    }
  }
}

/**
 * The samples of a part, once, those that are not broken; shards come in an order that depends on the seed of the part, so that the first
 * of them are of all kinds.
 */
export async function* samplesOfPart<Kind extends SourceKind>(
  source: SampleSource<Kind>,
  part: StreamPart,
): AsyncGenerator<SampleOf<Kind>, void, undefined> {
  for (const shard of epochOrder(source.shards, part.seed, 0)) {
    for await (const sample of source.read(shard, 0)) {
      if (!isBroken(sample as Sample | BrokenSample) && isInPart(sample.id, part))
        yield sample as SampleOf<Kind>
    }
  }
}
