import { typeMismatch } from '../../validate.ts'
import { countNgrams, maxOrder, type NgramCounts } from './ngrams.ts'
import { checkCaptions, type TokenizedCaption } from './tokens.ts'

/** Of how many pictures the references have an n-gram: CIDEr's weights of words. */
export interface DocumentFrequencies {
  /** Pictures. */
  documents: number
  /** `counts[n - 1]` has the n-grams of n tokens. */
  counts: readonly NgramCounts[]
}

/** What makes CIDEr-D of CIDEr. */
const sigma = 6

/**
 * Counts in how many pictures' references n-grams occur.
 *
 * @param corpus for each picture its references as tokens; at least one picture
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function documentFrequencies(corpus: readonly TokenizedCaption['references'][]): DocumentFrequencies {
  if (!Array.isArray(corpus)) throw typeMismatch('corpus', 'an array', corpus)
  const captions = checkCaptions(corpus.map((references: unknown) => ({ candidate: [], references })))
  const counts = Array.from({ length: maxOrder }, () => new Map<string, number>())
  for (const { references } of captions) {
    const ngrams = references.map(countNgrams)
    counts.forEach((total, i) => {
      for (const ngram of new Set(ngrams.flatMap((one) => [...one[i]!.keys()]))) {
        total.set(ngram, (total.get(ngram) ?? 0) + 1)
      }
    })
  }
  return { documents: captions.length, counts }
}

/**
 * CIDEr-D (Vedantam et al., "CIDEr: consensus-based image description evaluation", CVPR 2015, 6) as coco-caption computes it under the name
 * CIDEr, which is the number that papers report: tf-idf vectors of n-grams, n from 1 to 4, idf log(N) - log(max(1, df)); for each
 * reference sum(min(h, r) r) / (|h| |r|) times exp(-(difference of lengths)^2 / (2 6^2)), where coco-caption's length is the number of bigrams;
 * the mean over n and references, times 10.
 *
 * @param frequencies of the captions' own references unless given. Those of a single picture say nothing: every weight is log(1) = 0, and so is the score
 * @returns `corpus`: the mean of `items`. In [0, 10].
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function ciderD(
  captions: readonly TokenizedCaption[],
  frequencies?: DocumentFrequencies,
): { corpus: number; items: number[] } {
  return consensus(captions, frequencies, (candidate, reference) => {
    const penalty = Math.exp(-((candidate.bigrams - reference.bigrams) ** 2) / (2 * sigma ** 2))
    return similarity(candidate, reference, Math.min) * penalty
  })
}

/**
 * CIDEr as the paper defines it (equations 1 to 3; without its stemming, as its authors' code): as {@link ciderD}, but plain cosines without clipping
 * and without the penalty for lengths. Rarely what a paper means by CIDEr.
 *
 * @param frequencies of the captions' own references unless given
 * @returns `corpus`: the mean of `items`. In [0, 10].
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function cider(
  captions: readonly TokenizedCaption[],
  frequencies?: DocumentFrequencies,
): { corpus: number; items: number[] } {
  return consensus(captions, frequencies, (candidate, reference) =>
    similarity(candidate, reference, (own) => own),
  )
}

/** A caption as weighted n-grams. */
interface Weighted {
  /** `weights[n - 1]` has those of n tokens. */
  weights: ReadonlyMap<string, number>[]
  norms: number[]
  bigrams: number
}

function consensus(
  captions: readonly TokenizedCaption[],
  frequencies: DocumentFrequencies | undefined,
  compare: (candidate: Weighted, reference: Weighted) => number,
): { corpus: number; items: number[] } {
  const checked = checkCaptions(captions)
  const { documents, counts } = checkFrequencies(
    frequencies ?? documentFrequencies(checked.map(({ references }) => references)),
  )
  const logDocuments = Math.log(documents)
  const weigh = (tokens: readonly string[]): Weighted => {
    const weights = countNgrams(tokens).map((own, i) => {
      const weighted = new Map<string, number>()
      for (const [ngram, count] of own) {
        weighted.set(ngram, count * (logDocuments - Math.log(Math.max(1, counts[i]!.get(ngram) ?? 0))))
      }
      return weighted
    })
    return { weights, norms: weights.map(norm), bigrams: Math.max(0, tokens.length - 1) }
  }
  const items = checked.map(({ candidate, references }) => {
    const own = weigh(candidate)
    const sum = references.reduce((total, reference) => total + compare(own, weigh(reference)), 0)
    return (10 * sum) / references.length
  })
  return { corpus: items.reduce((sum, one) => sum + one, 0) / items.length, items }
}

/** The mean over n of the cosines, the candidate's weights changed by `clip`. */
function similarity(
  candidate: Weighted,
  reference: Weighted,
  clip: (own: number, other: number) => number,
): number {
  let sum = 0
  candidate.weights.forEach((own, i) => {
    const norms = candidate.norms[i]! * reference.norms[i]!
    if (norms === 0) return
    const others = reference.weights[i]!
    let product = 0
    for (const [ngram, weight] of own) {
      const other = others.get(ngram)
      if (other !== undefined) product += clip(weight, other) * other
    }
    sum += product / norms
  })
  return sum / maxOrder
}

function norm(weights: ReadonlyMap<string, number>): number {
  let sum = 0
  for (const weight of weights.values()) sum += weight * weight
  return Math.sqrt(sum)
}

function checkFrequencies(frequencies: DocumentFrequencies): DocumentFrequencies {
  const { documents, counts } = (frequencies ?? {}) as Partial<DocumentFrequencies>
  const sound =
    Number.isSafeInteger(documents) &&
    documents! >= 1 &&
    Array.isArray(counts) &&
    counts.length === maxOrder &&
    counts.every((one) => one instanceof Map)
  if (!sound) throw typeMismatch('frequencies', 'what documentFrequencies returns', frequencies)
  return frequencies
}
