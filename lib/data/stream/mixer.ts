import { CounterRandom } from '../random.ts'
import type { Sample, SampleSource } from '../sources/sample.ts'
import { type CursorState, type ShuffleBuffer, ShuffledCursor } from './shuffled-cursor.ts'
import { isInPart, type StreamPart } from './held-out.ts'

/** A source and how often it is drawn from. */
export interface WeightedSource<Source extends SampleSource = SampleSource> {
  source: Source
  /** In proportion to the other weights. */
  weight: number
}

/** Where a {@link Mixer} stands, as JSON. */
export interface MixerState {
  /** Samples given so far. */
  position: number
  sources: CursorState[]
}

/** What decides the samples of a {@link Mixer}, and their order. */
export interface MixerOptions {
  seed: number
  buffer: ShuffleBuffer
  part: StreamPart | undefined
}

/** A sample of a stream. */
export interface DrawnSample<S extends Sample = Sample> {
  sample: S
  /** Number of the source, and of the shard in it. */
  source: number
  shard: number
  epoch: number
  /** Number of the sample in the stream. */
  position: number
  /** What was broken on the way to it. */
  broken: { id: string; reason: string }[]
  /** The state from which the samples after this one come. */
  state: () => MixerState
}

const choiceStream = 2 ** 41
const seedStream = 2 ** 42

/** Samples of several sources without end, each drawn from a source with the probability of its weight. */
export class Mixer<S extends Sample = Sample> {
  readonly #shares: number[]
  readonly #choice: CounterRandom
  readonly #seed: number
  #cursors: ShuffledCursor<S>[] = []
  #snapshots: (() => CursorState)[] = []
  #position = 0
  #broken: { id: string; reason: string }[] = []

  private constructor(sources: readonly WeightedSource[], seed: number) {
    this.#seed = seed
    this.#choice = new CounterRandom(seed, choiceStream)
    const sum = sources.reduce((total, { weight }) => total + weight, 0)
    let below = 0
    this.#shares = sources.map(({ weight }) => (below += weight / sum))
  }

  /** @param state where to go on; the beginning unless given */
  static async open<S extends Sample>(
    sources: readonly WeightedSource[],
    { seed, buffer, part }: MixerOptions,
    state?: MixerState,
  ): Promise<Mixer<S>> {
    const mixer = new Mixer<S>(sources, seed)
    mixer.#position = state?.position ?? 0
    for (const [i, { source }] of sources.entries()) {
      const options = {
        seed: mixer.#seedOf(i),
        buffer,
        keep: (id: string) => isInPart(id, part),
        onBroken: ({ id, reason }: { id: string; reason: string }) => mixer.#broken.push({ id, reason }),
      }
      const saved = state?.sources[i]
      mixer.#cursors.push(
        saved === undefined
          ? new ShuffledCursor<S>(source, options)
          : await ShuffledCursor.resume<S>(source, options, saved),
      )
    }
    mixer.#snapshots = mixer.#cursors.map((cursor) => cursor.snapshot())
    return mixer
  }

  /** The samples; closes the sources when it ends. */
  async *samples(): AsyncGenerator<DrawnSample<S>, never, undefined> {
    try {
      for (;;) yield await this.#next()
    } finally {
      for (const cursor of this.#cursors) await cursor.close()
    }
  }

  async #next(): Promise<DrawnSample<S>> {
    const position = this.#position++
    const random = this.#choice.at(position) / 2 ** 32
    const found = this.#shares.findIndex((share) => random < share)
    const source = found < 0 ? this.#shares.length - 1 : found // the last share may round to less than 1
    const { sample, shard, epoch } = await this.#cursors[source]!.next()
    this.#snapshots = this.#snapshots.with(source, this.#cursors[source]!.snapshot())
    const snapshots = this.#snapshots
    const broken = this.#broken
    this.#broken = []
    const state = () => ({ position: position + 1, sources: snapshots.map((snapshot) => snapshot()) })
    return { sample, source, shard, epoch, position, broken, state }
  }

  /** Other for every source, or two of one length would be read in the same order. */
  #seedOf(source: number): number {
    return new CounterRandom(this.#seed, seedStream).at(source)
  }
}
