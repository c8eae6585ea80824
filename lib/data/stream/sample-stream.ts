import { VilgError } from '../../errors.ts'
import {
  expectInteger,
  expectNumber,
  expectOneOf,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../../validate.ts'
import { fingerprintOf } from '../sources/fingerprint.ts'
import { type BrokenReport, brokenSample, BrokenSamples, type Sample } from '../sources/sample.ts'
import { DECODE_AHEAD, reasonOfBadFile } from './image-reader.ts'
import type { StreamPart } from './held-out.ts'
import { mapAhead } from './map-ahead.ts'
import { type DrawnSample, Mixer, type MixerState, type WeightedSource } from './mixer.ts'
import { noSamples } from './shuffled-cursor.ts'

/** What to do about samples that cannot be used. */
export const BROKEN_POLICIES = Object.freeze(['skip', 'throw'] as const)

/** One of {@link BROKEN_POLICIES}. */
export type BrokenPolicy = (typeof BROKEN_POLICIES)[number]

/** Options that all streams have. */
export interface StreamOptions {
  /** Decides the order: an integer from 0 to 2^53 - 1. */
  seed: number
  /** Samples that wait to be drawn from; 2048 unless given. 1 gives the samples of a shard in their order. */
  shuffle?: number
  /** Bytes of encoded pictures that wait at most; 256 MiB unless given. */
  shuffleBytes?: number
  /** Only the samples of this part. */
  part?: StreamPart
  /** `skip` unless given: broken samples are left out, counted and listed. `throw` ends the stream with the first one. */
  onBroken?: BrokenPolicy
  /** What {@link SampleStream.state} gave: the stream goes on with the sample after it. */
  resume?: StreamState
}

/** Keys of {@link StreamOptions}. */
export const STREAM_OPTION_KEYS = [
  'seed',
  'shuffle',
  'shuffleBytes',
  'part',
  'onBroken',
  'resume',
] as const satisfies readonly (keyof StreamOptions)[]

/** Where a stream stands, as JSON. */
export interface StreamState extends MixerState {
  /** Of sources, weights and all options that decide the order. */
  fingerprint: string
  broken: BrokenReport
}

/** A sample that was converted, or why it could not be. */
interface Attempt<Item, S extends Sample> {
  drawn: DrawnSample<S>
  result: { item: Item; reason?: undefined } | { reason: string }
}

/** Samples of a source that came one after the other, all broken. */
interface BrokenRun {
  /** The epoch of the first one. */
  since: number
  /** The first ones. */
  broken: { id: string; reason: string }[]
}

/** A sample of a stream, in the form that was asked for. */
export interface Streamed<Item> {
  item: Item
  /** Number of the sample in the stream; broken ones have numbers too. */
  position: number
  /** How many times all samples of its source were given before. */
  epoch: number
  /** Number of its source. */
  source: number
}

/**
 * Samples without end, shuffled, from several sources. Memory is bounded by the shuffle buffers. Iterating goes on after the last sample
 * that was given; a stream that is made with `resume` gives just what the one whose state that is would have given.
 */
export class SampleStream<Item, S extends Sample = Sample> implements AsyncIterable<Streamed<Item>> {
  readonly #sources: readonly WeightedSource[]
  readonly #options: StreamOptions & Required<Pick<StreamOptions, 'shuffle' | 'shuffleBytes' | 'onBroken'>>
  readonly #convert: (drawn: DrawnSample<S>) => Promise<Item>
  readonly #broken: BrokenSamples
  /** Of each source: what was broken since its last sound sample. */
  readonly #brokenRuns: (BrokenRun | undefined)[]
  #state: (() => MixerState) | undefined
  #isRunning = false
  /** Changes with sources, weights and options: states of other streams are refused. */
  readonly fingerprint: string

  /** @internal Made by {@link streamPairs} and {@link streamCodes}. */
  constructor(
    sources: readonly WeightedSource[],
    options: StreamOptions,
    convert: (drawn: DrawnSample<S>) => Promise<Item>,
  ) {
    checkSources(sources)
    this.#sources = sources
    this.#options = checkOptions(options)
    this.#convert = convert
    const { seed, shuffle, shuffleBytes, part = null, resume } = this.#options
    const parts = sources.map(({ source, weight }) => [source.fingerprint, weight])
    this.fingerprint = fingerprintOf([parts, { seed, shuffle, shuffleBytes, part }])
    this.#brokenRuns = sources.map(() => undefined)
    if (resume === undefined) {
      this.#broken = new BrokenSamples()
      for (const { source } of sources) this.#broken.addAll(source.broken)
    } else {
      const { fingerprint, broken, ...rest } = checkState(resume, this.fingerprint)
      this.#broken = new BrokenSamples(broken)
      this.#state = () => rest
    }
  }

  /** Where the stream stands: after the last sample that was given. Undefined before the first. */
  state(): StreamState | undefined {
    if (this.#state === undefined) return undefined
    return { fingerprint: this.fingerprint, ...this.#state(), broken: this.#broken.report() }
  }

  /** What was left out so far, each sample once. */
  get broken(): BrokenReport {
    return this.#broken
  }

  /**
   * @throws ERR_VILG_INVALID_ARGUMENT where a source has no sample that can be used; ERR_VILG_BUSY while another loop iterates
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Streamed<Item>, void, undefined> {
    if (this.#isRunning) {
      const text =
        'Expected one loop over a stream at a time. End the other one first, or make another stream'
      throw new VilgError('ERR_VILG_BUSY', text)
    }
    this.#isRunning = true
    const { seed, shuffle, shuffleBytes, part } = this.#options
    const buffer = { samples: shuffle, bytes: shuffleBytes }
    try {
      const mixer = await Mixer.open<S>(this.#sources, { seed, buffer, part }, this.#state?.())
      const items = mapAhead(mixer.samples(), DECODE_AHEAD, (drawn) => this.#attempt(drawn))
      for await (const { drawn, result } of items) {
        const { source, epoch, position } = drawn
        this.#state = drawn.state
        for (const { id, reason } of drawn.broken) this.#leaveOut(id, reason, 0)
        if (result.reason !== undefined) this.#noteBroken(drawn, result.reason)
        else {
          this.#brokenRuns[source] = undefined
          yield { item: result.item, position, epoch, source }
        }
      }
    } finally {
      this.#isRunning = false
    }
  }

  async #attempt(drawn: DrawnSample<S>): Promise<Attempt<Item, S>> {
    try {
      return { drawn, result: { item: await this.#convert(drawn) } }
    } catch (error) {
      return { drawn, result: { reason: reasonOfBadFile(error) } }
    }
  }

  #noteBroken({ sample, source, epoch }: DrawnSample<S>, reason: string): void {
    this.#leaveOut(sample.id, reason, epoch)
    const run = (this.#brokenRuns[source] ??= { since: epoch, broken: [] })
    if (run.broken.length < 3) run.broken.push({ id: sample.id, reason })
    // two epochs further on, a whole one had nothing that could be used
    if (epoch - run.since >= 2) throw noSamples(this.#sources[source]!.source, run.broken)
  }

  /** Counts what is broken in the first epoch: it comes again in every other. */
  #leaveOut(id: string, reason: string, epoch: number): void {
    if (this.#options.onBroken === 'throw') throw brokenSample(id, reason)
    if (epoch === 0) this.#broken.add(id, reason)
  }
}

function checkSources(sources: unknown): asserts sources is readonly WeightedSource[] {
  if (!Array.isArray(sources)) throw typeMismatch('sources', 'an array of { source, weight }', sources)
  if (sources.length === 0) throw outOfRange('sources', 'at least one source', sources)
  for (const [i, one] of (sources as WeightedSource[]).entries()) {
    rejectUnknownKeys(`sources[${i}]`, one, ['source', 'weight'])
    if (typeof one?.source?.read !== 'function')
      throw typeMismatch(`sources[${i}].source`, 'a source, as openSource gives it', one?.source)
    const weight = expectNumber(`sources[${i}].weight`, one.weight, { min: 0 })
    if (weight === 0) throw outOfRange(`sources[${i}].weight`, 'a number above 0', weight)
    if (one.source.shards === 0) throw noSamples(one.source)
  }
}

function checkOptions(options: StreamOptions) {
  const { part } = options
  if (part !== undefined) {
    rejectUnknownKeys('part', part, ['name', 'share', 'seed'])
    expectOneOf('part.name', part.name, ['train', 'held-out'])
    expectNumber('part.share', part.share, { min: 0, max: 1 })
    expectInteger('part.seed', part.seed, { min: 0 })
  }
  return {
    ...options,
    seed: expectInteger('seed', options.seed, { min: 0 }),
    shuffle: expectInteger('shuffle', options.shuffle ?? 2048, { min: 1, max: 2 ** 20 }),
    shuffleBytes: expectInteger('shuffleBytes', options.shuffleBytes ?? 2 ** 28, { min: 1 }),
    onBroken: expectOneOf('onBroken', options.onBroken ?? 'skip', BROKEN_POLICIES),
  }
}

function checkState(state: StreamState, fingerprint: string): StreamState {
  if (typeof state !== 'object' || state === null || typeof state.fingerprint !== 'string')
    throw typeMismatch('resume', 'what state() of a stream gave', state)
  if (state.fingerprint === fingerprint) return state
  const text =
    'Expected the sources, weights and options of the stream that the state is of, received others. Begin anew without resume'
  throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, {
    expected: state.fingerprint,
    found: fingerprint,
  })
}
