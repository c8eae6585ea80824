import { join } from 'node:path'
import { modelFingerprint } from '../../model/fingerprint.ts'
import { type CodeSource, openCodeSource } from '../../data/codes/code-source.ts'
import { codeReport, tokenizeSource } from '../../data/codes/tokenize-source.ts'
import { tensorToPixels } from '../../data/image.ts'
import { type ImageTextPair, memoryPairs, type PairSource } from '../../data/pairs.ts'
import { fingerprintOf } from '../../data/sources/fingerprint.ts'
import {
  type BrokenReport,
  BrokenSamples,
  type CodeSample,
  type SampleSource,
} from '../../data/sources/sample.ts'
import type { StreamPart } from '../../data/stream/held-out.ts'
import { ImageReader, reasonOfBadFile } from '../../data/stream/image-reader.ts'
import { samplesOfPart } from '../../data/stream/in-order.ts'
import type { WeightedSource } from '../../data/stream/mixer.ts'
import type { BrokenPolicy, StreamState } from '../../data/stream/sample-stream.ts'
import { streamCodes, streamPairs } from '../../data/stream/streams.ts'
import { VilgError } from '../../errors.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { imageBatchesInOrder, joinRows } from './batches.ts'
import { streamImageBatches, streamTokenBatches, tokenRow } from './stream-batches.ts'
import type {
  BatchOptions,
  CaptionOptions,
  DataPart,
  TokenData,
  TokenPlace,
  TrainingData,
} from './training-data.ts'

type ImageSource = SampleSource<'images'>

/** What a {@link StreamData} is made of. */
export interface StreamDataOptions {
  sources: readonly WeightedSource<ImageSource | CodeSource>[]
  /** Side of the pictures. */
  size: number
  /** Share of the pairs that is held out, from 0 to below 1, and what decides which these are. */
  heldOut: { share: number; seed: number }
  /** As in {@link StreamOptions}. */
  shuffle: number
  onBroken: BrokenPolicy
  /** Ends what reads through the sources. */
  signal: AbortSignal
}

/** The most held-out pairs that are measured: they are measured often, and the pictures are in memory. */
const mostHeldOut = 512
/** The most pairs whose captions the vocabulary is made from. */
const mostCaptioned = 1_000_000
/** Decoded pictures that are kept between epochs, in bytes. */
const cacheBytes = 2 ** 28

/** Sources of any size, read as streams; pictures become shards of codes. */
export class StreamData implements TrainingData {
  readonly settings: unknown
  readonly #options: StreamDataOptions
  readonly #images: readonly WeightedSource<ImageSource>[]
  readonly #heldOut: PairSource | undefined
  readonly hasHeldOut: boolean

  private constructor(options: StreamDataOptions, heldOut: PairSource | undefined, hasHeldOut: boolean) {
    const { sources, size, heldOut: split, shuffle } = options
    this.#options = options
    this.#images = sources.filter((one): one is WeightedSource<ImageSource> => one.source.kind === 'images')
    this.#heldOut = heldOut
    this.hasHeldOut = hasHeldOut
    this.settings = {
      sources: sources.map(({ source, weight }) => ({ fingerprint: source.fingerprint, weight })),
      size,
      heldOut: split,
      shuffle,
    }
  }

  /** Reads the held-out pictures. */
  static async open(options: StreamDataOptions): Promise<StreamData> {
    const data = new StreamData(options, undefined, false)
    if (options.heldOut.share === 0) return data
    if (!data.hasPictures) {
      const first = await data.captions('held-out').next()
      return new StreamData(options, undefined, first.done !== true)
    }
    const pairs = await data.#pictures('held-out', Math.ceil(mostHeldOut / data.#images.length))
    return pairs.length === 0 ? data : new StreamData(options, memoryPairs(pairs), true)
  }

  /** Whether there is any picture, for the image tokenizer to be trained on. */
  get hasPictures(): boolean {
    return this.#images.length > 0
  }

  /** Pairs that are held out of the image tokenizer's training and measured. */
  get heldOutCount(): number {
    return this.#heldOut?.length ?? 0
  }

  /** What was found to be unusable when the sources were opened; the rest shows when it is read. */
  get broken(): BrokenReport {
    const broken = new BrokenSamples()
    for (const { source } of this.#options.sources) broken.addAll(source.broken)
    return broken.report()
  }

  /** How many pairs there are to train on, counted up to `most`. */
  async count(most: number): Promise<number> {
    let count = 0
    for await (const _ of this.captions('train')) if (++count === most) break
    return count
  }

  async *captions(part: DataPart): AsyncGenerator<readonly string[]> {
    const { sources } = this.#options
    const most = Math.ceil((part === 'train' ? mostCaptioned : mostHeldOut) / sources.length)
    for (const { source } of sources) {
      let left = most
      for await (const { captions } of samplesOfPart<'images' | 'codes'>(source, this.#part(part))) {
        this.#options.signal.throwIfAborted()
        yield captions
        if (--left === 0) break
      }
    }
  }

  async shown(count: number, imageTokenizer?: ImageTokenizer): Promise<ImageTextPair[]> {
    const parts: DataPart[] = this.hasHeldOut ? ['train', 'held-out'] : ['train']
    const shown: ImageTextPair[] = []
    for (const part of parts) {
      const pairs = this.hasPictures
        ? await this.#pictures(part, Math.ceil(count / this.#images.length))
        : await this.#decoded(part, count, imageTokenizer!)
      if (pairs.length > 0) shown.push(...Array.from({ length: count }, (_, i) => pairs[i % pairs.length]!))
    }
    return shown
  }

  imageBatches({ batch, seed, state }: BatchOptions) {
    const { size } = this.#options
    const stream = streamPairs(this.#images, { ...this.#streamOptions(seed, state), size, cacheBytes })
    return streamImageBatches(stream, { batch, seed })
  }

  heldOutImages(batch: number) {
    return imageBatchesInOrder(this.#heldOut!, batch)
  }

  async makeTokens(place: TokenPlace, signal: AbortSignal): Promise<string> {
    const { tokenizerFolder } = place
    const tokenizer = await ImageTokenizer.load(tokenizerFolder, { precision: 'float32' })
    const done: string[] = []
    try {
      const fingerprint = await modelFingerprint(tokenizerFolder)
      for (const { source } of this.#images) {
        const { onBroken } = this.#options
        const out = codesFolder(place, source, fingerprint)
        const index = await tokenizeSource(tokenizer, source, out, { tokenizerFolder, onBroken, signal })
        const { kept, broken, problems } = codeReport(index)
        const shown = problems.slice(0, 3).map(({ id, reason }) => `${id}: ${reason}`)
        const left = broken === 0 ? '' : ` (${shown.join('; ')}; all in ${out})`
        done.push(`${kept} pictures of ${source.name}, ${broken} left out${left}`)
      }
    } finally {
      await tokenizer.dispose()
    }
    return done.join('; ') || 'all data is codes already'
  }

  async openTokens(place: TokenPlace, captions: CaptionOptions): Promise<TokenData> {
    const fingerprint = await modelFingerprint(place.tokenizerFolder)
    const sources: WeightedSource<CodeSource>[] = []
    for (const { source, weight } of this.#options.sources) {
      const codes =
        source.kind === 'codes'
          ? (source as CodeSource)
          : await openCodeSource(codesFolder(place, source, fingerprint))
      if (codes.model.fingerprint !== fingerprint) throw otherTokenizer(codes, place)
      sources.push({ source: codes, weight })
    }
    return {
      key: fingerprintOf([sources.map(({ source, weight }) => [source.fingerprint, weight]), this.settings]),
      shuffled: ({ batch, seed, state, nameShare }) => {
        const stream = streamCodes(sources, this.#streamOptions(seed, state))
        return streamTokenBatches(stream, { batch, seed, nameShare, ...captions })
      },
      heldOut: (batch) => this.#heldOutTokens(sources, batch, captions),
    }
  }

  #streamOptions(seed: number, state: unknown) {
    const { shuffle, onBroken } = this.#options
    return { seed, shuffle, onBroken, part: this.#part('train'), resume: state as StreamState | undefined }
  }

  #part(name: DataPart): StreamPart {
    return { name, ...this.#options.heldOut }
  }

  /** The first sound pictures of a part of every source, at most `most` of each. */
  async #pictures(part: DataPart, most: number): Promise<ImageTextPair[]> {
    const reader = new ImageReader(this.#options.size, 'cover')
    const pairs: ImageTextPair[] = []
    for (const { source } of this.#images) {
      let left = most
      for await (const sample of samplesOfPart(source, this.#part(part))) {
        this.#options.signal.throwIfAborted()
        try {
          pairs.push(await reader.read(sample))
        } catch (error) {
          reasonOfBadFile(error) // counted and listed where the stream or the tokenization comes by
          continue
        }
        if (--left === 0) break
      }
    }
    return pairs
  }

  /** The first pictures of a part, from their codes. */
  async #decoded(part: DataPart, count: number, tokenizer: ImageTokenizer): Promise<ImageTextPair[]> {
    const samples: CodeSample[] = []
    for (const { source } of this.#options.sources as readonly WeightedSource<CodeSource>[]) {
      for await (const sample of samplesOfPart(source, this.#part(part))) {
        samples.push(sample)
        if (samples.length === count) break
      }
      if (samples.length === count) break
    }
    if (samples.length === 0) return []
    const { resolution } = tokenizer.config
    const codes = Int32Array.from(samples.flatMap((sample) => [...sample.codes]))
    const tensor = await tokenizer.decode(codes, { count: samples.length })
    const images = tensorToPixels(tensor, { width: resolution, height: resolution })
    return samples.map(({ id, captions }, i) => ({ id, captions, ...images[i]! }))
  }

  async *#heldOutTokens(
    sources: readonly WeightedSource<CodeSource>[],
    batch: number,
    captions: CaptionOptions,
  ) {
    let rows = []
    for (const { source } of sources) {
      let left = Math.ceil(mostHeldOut / sources.length)
      for await (const sample of samplesOfPart(source, this.#part('held-out'))) {
        rows.push(tokenRow(sample, 0, captions))
        if (rows.length === batch) {
          yield joinRows(rows)
          rows = []
        }
        if (--left === 0) break
      }
    }
    if (rows.length > 0) yield joinRows(rows)
  }
}

/** Another one for other data or another image tokenizer: shards of both never mix. */
function codesFolder({ folder }: TokenPlace, source: SampleSource, tokenizer: string): string {
  return join(folder, 'codes', fingerprintOf([source.fingerprint, tokenizer]).slice(0, 16))
}

function otherTokenizer({ name }: CodeSource, { tokenizerFolder }: TokenPlace): VilgError {
  const text = `Expected codes of the image tokenizer in ${tokenizerFolder}, and those in ${name} are of another one. Tokenize the pictures again, or give the one that made them`
  return new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, { codes: name, tokenizer: tokenizerFolder })
}
