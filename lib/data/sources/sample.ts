import { VilgError } from '../../errors.ts'

/** What all samples of a source have. */
interface SampleBase {
  /** Its number in its shard, broken samples counted too. */
  index: number
  /** Tells the sample from all others of its source. */
  id: string
  /** At least one, none empty; the first is the one that names the picture best. */
  captions: string[]
}

/** A picture with its captions, not decoded: the picture is the path of a file or the bytes of one. */
export interface ImageSample extends SampleBase {
  image: string | Uint8Array
}

/** A picture that became codes, with its captions. */
export interface CodeSample extends SampleBase {
  /** grid x grid codes, row by row */
  codes: Int32Array
}

/** A sample of either kind. */
export type Sample = ImageSample | CodeSample

/** What a shard has in the place of a sample that cannot be used. */
export interface BrokenSample {
  index: number
  /** The sample, or the place in the shard, for people. */
  id: string
  reason: string
}

/** What the samples of a source are. */
export type SourceKind = 'images' | 'codes'

/** The samples of a kind. */
export type SampleOf<Kind extends SourceKind> = Kind extends 'codes' ? CodeSample : ImageSample

/** Where samples come from: shards that are each read from their beginning on, in any order of shards. */
export interface SampleSource<Kind extends SourceKind = SourceKind> {
  /** As it was opened, for messages. */
  readonly name: string
  readonly kind: Kind
  /** How many shards there are: files, row groups, or single pictures where these can be read in any order. */
  readonly shards: number
  /** Changes where samples come, go or get other captions; not where the source moves to another folder. */
  readonly fingerprint: string
  /** What was found to be unusable when the source was opened. */
  readonly broken: BrokenReport
  /**
   * The samples of a shard, in an order that never changes, from number `from` on. What cannot be used comes as a
   * {@link BrokenSample}; a shard that is damaged in the middle ends with one.
   */
  read(shard: number, from: number): AsyncIterable<SampleOf<Kind> | BrokenSample>
}

/** What was left out, and why. */
export interface BrokenReport {
  /** How many there are. */
  count: number
  /** The first of them. */
  listed: { id: string; reason: string }[]
}

/** The most broken samples that are listed; beyond it they are counted only. */
export const MAX_LISTED_BROKEN = 1000

/** Counts broken samples and lists the first of them. */
export class BrokenSamples implements BrokenReport {
  count = 0
  readonly listed: { id: string; reason: string }[] = []

  /** @param report what was found before */
  constructor(report?: BrokenReport) {
    if (report !== undefined) this.addAll(report)
  }

  add(id: string, reason: string): void {
    this.count++
    if (this.listed.length < MAX_LISTED_BROKEN) this.listed.push({ id, reason })
  }

  addAll(report: BrokenReport): void {
    this.count += report.count
    this.listed.push(...report.listed.slice(0, MAX_LISTED_BROKEN - this.listed.length))
  }

  /** As plain JSON. */
  report(): BrokenReport {
    return { count: this.count, listed: [...this.listed] }
  }
}

/** Whether a shard has a broken sample in this place. */
export function isBroken(sample: Sample | BrokenSample): sample is BrokenSample {
  return 'reason' in sample
}

/** Extensions of the pictures that are read, in lower case, with their dots. */
export const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set([
  '.png',
  '.jpg',
  '.jpeg',
  '.webp',
  '.gif',
  '.avif',
  '.tif',
  '.tiff',
])

/**
 * The largest encoded picture inside a shard, in bytes: 64 MiB. A shuffle buffer holds many at once, and a damaged header can claim
 * any size.
 */
export const MAX_SHARD_IMAGE_BYTES = 64 * 1024 * 1024

/** The largest file or entry of captions: 1 MiB. */
export const MAX_CAPTION_BYTES = 2 ** 20

/** The error of a broken sample where none is to be skipped. */
export function brokenSample(id: string, reason: string): VilgError {
  const text = `Expected sound samples, as onBroken is throw, and ${id} is broken: ${reason}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { id, reason })
}
