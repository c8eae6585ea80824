import type { FilterChain } from '../filters/filter-chain.ts'
import type { ImageFit } from '../image.ts'
import type { ImageTextPair } from '../pairs.ts'
import {
  type BrokenReport,
  brokenSample,
  BrokenSamples,
  type ImageSample,
  isBroken,
  type SampleSource,
} from '../sources/sample.ts'
import { DECODE_AHEAD, ImageReader, reasonOfBadFile } from '../stream/image-reader.ts'
import { samplesInOrder } from '../stream/in-order.ts'
import { mapAhead } from '../stream/map-ahead.ts'
import type { BrokenPolicy } from '../stream/sample-stream.ts'
import type { SourcePosition } from './code-index.ts'

/** Options of {@link FilteredPairs}. */
export interface FilteredPairsOptions {
  from: SourcePosition
  size: number
  fit: ImageFit
  chain: FilterChain
  onBroken: BrokenPolicy
  signal: AbortSignal | undefined
}

/** A pair that passed all rules, and what these have to remember of it. */
export interface KeptPair {
  pair: ImageTextPair
  marks: Record<string, string>
}

/** A sample on its way, decoded ahead of its turn. */
interface Candidate {
  end: SourcePosition
  id: string
  /** Counts what the rules about captions dropped of it. */
  count?: () => void
  /** Neither: it was dropped by its captions. */
  pair?: ImageTextPair
  reason?: string
}

/** The samples of a source, in order, that pass a chain of rules. */
export class FilteredPairs {
  readonly #chain: FilterChain
  readonly #onBroken: BrokenPolicy
  readonly #signal: AbortSignal | undefined
  readonly #candidates: AsyncGenerator<Candidate, void, undefined>
  #broken = new BrokenSamples()
  #read = 0
  #isOver = false
  /** Behind the last sample that was looked at. */
  position: SourcePosition

  constructor(
    source: SampleSource<'images'>,
    { from, size, fit, chain, onBroken, signal }: FilteredPairsOptions,
  ) {
    this.#chain = chain
    this.#onBroken = onBroken
    this.#signal = signal
    this.position = from
    const reader = new ImageReader(size, fit)
    this.#candidates = mapAhead(samplesInOrder(source, from), DECODE_AHEAD, async ({ sample, end }) => {
      if (isBroken(sample)) return { end, id: sample.id, reason: sample.reason }
      return { end, id: sample.id, ...(await this.#decode(sample, reader)) }
    })
  }

  /** Whether the source has come to its end. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** The next pairs that stay; fewer than `count` only at the end of the source. */
  async take(count: number): Promise<KeptPair[]> {
    const kept: KeptPair[] = []
    while (kept.length < count) {
      this.#signal?.throwIfAborted()
      const next = await this.#candidates.next()
      if (next.done === true) {
        this.#isOver = true
        break
      }
      const { end, id, count: countDropped, pair, reason } = next.value
      this.position = end
      this.#read++
      countDropped?.()
      if (reason !== undefined) this.#leaveOut(id, reason)
      else if (pair !== undefined) {
        const captions = await this.#chain.filterPair({ ...pair, image: pair })
        if (captions.length === 0) continue
        const left = { ...pair, captions: [...captions] }
        kept.push({ pair: left, marks: this.#chain.remember({ ...left, image: left }) })
      }
    }
    return kept
  }

  /** What was read since the last call, and where it ended. */
  takeReport(): { read: number; broken: BrokenReport; end: SourcePosition } {
    const report = { read: this.#read, broken: this.#broken.report(), end: this.position }
    this.#read = 0
    this.#broken = new BrokenSamples()
    return report
  }

  /** Closes the source. */
  async close(): Promise<void> {
    await this.#candidates.return()
  }

  async #decode(sample: ImageSample, reader: ImageReader): Promise<Omit<Candidate, 'end' | 'id'>> {
    const { captions, count } = this.#chain.filterCaptions(sample)
    if (captions.length === 0) return { count }
    try {
      return { count, pair: await reader.read({ ...sample, captions: [...captions] }) }
    } catch (error) {
      return { count, reason: reasonOfBadFile(error) }
    }
  }

  #leaveOut(id: string, reason: string): void {
    if (this.#onBroken === 'throw') throw brokenSample(id, reason)
    this.#broken.add(id, reason)
  }
}
