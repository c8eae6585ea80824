import type { RgbImage } from '../image.ts'

/** What a rule is asked about. */
export interface FilterSample {
  id: string
  captions: readonly string[]
}

/** The same once its picture is decoded. */
export interface FilterPair extends FilterSample {
  image: RgbImage
}

/** What all rules have. */
interface RuleBase {
  /** Among the rules of a chain. */
  readonly name: string
  /** What decides it, as JSON: work goes on with the same rules only. */
  readonly settings: Readonly<Record<string, unknown>>
}

/** A rule about captions, asked before the picture is decoded. */
export interface CaptionRule extends RuleBase {
  readonly needs: 'captions'
  /** Whether a caption may stay. A sample without any is dropped. */
  allows(caption: string): boolean
}

/** A rule about a picture and its captions. */
export interface PairRule extends RuleBase {
  readonly needs: 'picture'
  /** The captions that may stay; none drops the sample. */
  filter(pair: FilterPair): Promise<readonly string[]> | readonly string[]
  /**
   * Told of the last pair that {@link PairRule.filter} was asked about if no other rule dropped it.
   *
   * @returns what {@link PairRule.recall} takes
   */
  remember?(pair: FilterPair): string
  /** Told of a pair that was remembered by an earlier run. */
  recall?(mark: string): void
}

/** A step of a filter. */
export type FilterRule = CaptionRule | PairRule

/** What a rule dropped. */
export interface RuleCounts {
  /** Samples that had no caption left. */
  samples: number
  /** Captions, those of dropped samples among them. */
  captions: number
}
