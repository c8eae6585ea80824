import { VilgError } from '../../errors.ts'
import { CounterRandom, epochOrder } from '../random.ts'
import { type BrokenSample, isBroken, type Sample, type SampleSource } from '../sources/sample.ts'

/** Where a {@link ShuffledCursor} stands, as JSON. */
export interface CursorState {
  epoch: number
  /** Samples given in this epoch. */
  given: number
  /** Place of the shard in work in the epoch's order, and the number of the sample in it that is read next. */
  place: number
  index: number
  /** Shard and number of the samples in the buffer. */
  buffer: [shard: number, index: number][]
}

/** How samples are shuffled. */
export interface ShuffleBuffer {
  /** The most samples that are waiting. */
  samples: number
  /** Fewer wait where these have more bytes, of encoded pictures or codes, together. */
  bytes: number
}

/** Options of a {@link ShuffledCursor}. */
export interface CursorOptions {
  seed: number
  buffer: ShuffleBuffer
  /** Whether a sample belongs to the stream at all. */
  keep: (id: string) => boolean
  /** Told of what is broken, the first time that it is come by. */
  onBroken: (sample: BrokenSample, shard: number) => void
}

/** A sample and where it lies. */
export interface CursorSample<S extends Sample = Sample> {
  shard: number
  epoch: number
  sample: S
}

const drawStream = 2 ** 40 // the orders of shards use the streams from 0 on

/**
 * The samples of one source without end: every epoch has all of them once, the shards in an order that depends on seed and epoch alone,
 * and the samples through a buffer from which one is drawn whenever it is full. Memory is bounded by the buffer.
 */
export class ShuffledCursor<S extends Sample = Sample> {
  readonly #source: SampleSource
  readonly #options: CursorOptions
  #epoch = 0
  #given = 0
  #place = 0
  #index = 0
  #buffer: { shard: number; sample: S }[] = []
  #bytes = 0
  #order: Uint32Array
  #draws: CounterRandom
  #reader: { shard: number; iterator: AsyncIterator<Sample | BrokenSample> } | undefined

  constructor(source: SampleSource, options: CursorOptions) {
    this.#source = source
    this.#options = options
    this.#order = this.#orderOf(0)
    this.#draws = this.#drawsOf(0)
  }

  /** A cursor that goes on from a state. Reads the samples of its buffer again. */
  static async resume<S extends Sample>(
    source: SampleSource,
    options: CursorOptions,
    state: CursorState,
  ): Promise<ShuffledCursor<S>> {
    const cursor = new ShuffledCursor<S>(source, options)
    cursor.#epoch = state.epoch
    cursor.#given = state.given
    cursor.#place = state.place
    cursor.#index = state.index
    cursor.#order = cursor.#orderOf(state.epoch)
    cursor.#draws = cursor.#drawsOf(state.epoch)
    cursor.#buffer = await readAgain<S>(source, state.buffer)
    cursor.#bytes = cursor.#buffer.reduce((sum, { sample }) => sum + sizeOf(sample), 0)
    return cursor
  }

  /**
   * The next sample.
   *
   * @throws ERR_VILG_INVALID_ARGUMENT where a whole epoch has none
   */
  async next(): Promise<CursorSample<S>> {
    for (;;) {
      await this.#fill()
      if (this.#buffer.length > 0) return this.#draw()
      if (this.#given === 0) throw noSamples(this.#source)
      this.#beginEpoch(this.#epoch + 1)
    }
  }

  /** The state from which the samples after the last given one come again; later calls of next do not change it. */
  snapshot(): () => CursorState {
    const buffer = [...this.#buffer]
    const rest = { epoch: this.#epoch, given: this.#given, place: this.#place, index: this.#index }
    return () => ({ ...rest, buffer: buffer.map(({ shard, sample }) => [shard, sample.index]) })
  }

  /** Closes the shard in work. */
  async close(): Promise<void> {
    await this.#reader?.iterator.return?.()
    this.#reader = undefined
  }

  #draw(): CursorSample<S> {
    // of 2^32 numbers; that some places are likelier by a buffer's length in 2^32 is nothing anybody could measure
    const chosen = this.#draws.at(this.#given) % this.#buffer.length
    const { shard, sample } = this.#buffer[chosen]!
    const last = this.#buffer.pop()!
    if (chosen < this.#buffer.length) this.#buffer[chosen] = last
    this.#bytes -= sizeOf(sample)
    this.#given++
    return { shard, epoch: this.#epoch, sample }
  }

  async #fill(): Promise<void> {
    const { samples, bytes } = this.#options.buffer
    while (this.#place < this.#order.length) {
      if (this.#buffer.length >= samples || (this.#buffer.length > 0 && this.#bytes >= bytes)) return
      const shard = this.#order[this.#place]!
      if (this.#reader?.shard !== shard) await this.#open(shard)
      const next = await this.#reader!.iterator.next()
      if (next.done === true) {
        this.#reader = undefined
        this.#place++
        this.#index = 0
        continue
      }
      const sample = next.value
      this.#index = sample.index + 1
      if (isBroken(sample)) {
        if (this.#epoch === 0) this.#options.onBroken(sample, shard)
      } else if (this.#options.keep(sample.id)) {
        this.#buffer.push({ shard, sample: sample as S })
        this.#bytes += sizeOf(sample)
      }
    }
  }

  async #open(shard: number): Promise<void> {
    await this.close()
    this.#reader = { shard, iterator: this.#source.read(shard, this.#index)[Symbol.asyncIterator]() }
  }

  #beginEpoch(epoch: number): void {
    this.#epoch = epoch
    this.#given = 0
    this.#place = 0
    this.#index = 0
    this.#order = this.#orderOf(epoch)
    this.#draws = this.#drawsOf(epoch)
  }

  #orderOf(epoch: number): Uint32Array {
    return epochOrder(this.#source.shards, this.#options.seed, epoch)
  }

  #drawsOf(epoch: number): CounterRandom {
    return new CounterRandom(this.#options.seed, drawStream + epoch)
  }
}

/** What a sample takes in a buffer, but for its captions. */
function sizeOf(sample: Sample): number {
  if ('codes' in sample) return sample.codes.byteLength
  return typeof sample.image === 'string' ? 0 : sample.image.byteLength
}

/** Reads samples by their places, each shard once. */
async function readAgain<S extends Sample>(
  source: SampleSource,
  places: CursorState['buffer'],
): Promise<{ shard: number; sample: S }[]> {
  const wanted = new Map<number, Map<number, number>>()
  for (const [i, [shard, index]] of places.entries()) {
    const inShard = wanted.get(shard) ?? new Map<number, number>()
    wanted.set(shard, inShard.set(index, i))
  }
  const result = new Array<{ shard: number; sample: S } | undefined>(places.length)
  for (const [shard, inShard] of wanted) {
    let left = inShard.size
    for await (const sample of source.read(shard, Math.min(...inShard.keys()))) {
      const i = inShard.get(sample.index)
      if (i === undefined) continue
      if (!isBroken(sample)) result[i] = { shard, sample: sample as S }
      if (--left === 0) break
    }
  }
  const missing = result.findIndex((one) => one === undefined)
  if (missing >= 0) {
    const [shard, index] = places[missing]!
    const text = `Expected sample ${index} of shard ${shard} in ${source.name}, where it was when this state was saved. Begin anew, or bring back the data`
    throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, { source: source.name, shard, index })
  }
  return result as { shard: number; sample: S }[]
}

/** The error of a source that gives nothing. */
export function noSamples(
  source: SampleSource,
  reasons: readonly { id: string; reason: string }[] = [],
): VilgError {
  const listed = [...source.broken.listed, ...reasons]
  const count = source.broken.count + reasons.length
  const shown = listed.slice(0, 3).map(({ id, reason }) => `${id}: ${reason}`)
  const found = count === 0 ? 'it has none' : `${count} or more cannot be used (${shown.join('; ')})`
  const what = source.kind === 'images' ? 'pictures with captions' : 'codes with captions'
  const text = `Expected ${what} in ${source.name}, and ${found}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { source: source.name, problems: listed })
}
