import { countNgrams, maxOrder } from './ngrams.ts'
import { checkCaptions, type TokenizedCaption } from './tokens.ts'

/** BLEU-1 to BLEU-4. */
export type BleuScores = [number, number, number, number]

// coco-caption's guards against dividing by zero, and against a product that one missing order makes zero
const tiny = 1e-15
const small = 1e-9

/** The sums that BLEU is made from. */
interface BleuCounts {
  candidateLength: number
  referenceLength: number
  /** n-grams of the candidate that a reference has, each at most as often as the reference that has most of it. */
  correct: number[]
  /** All n-grams of the candidate. */
  guessed: number[]
}

/**
 * BLEU-1..4 (Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002) as coco-caption computes it: the
 * geometric mean of the clipped precisions of n-grams up to n, times exp(1 - r / c) where the candidates are shorter than the references, r
 * being the sum of the lengths of the references closest in length (the shorter of two as close).
 *
 * @returns `corpus`: from the sums over all captions, which is what papers report; `items`: of each caption by itself. In [0, 1].
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function bleu(captions: readonly TokenizedCaption[]): { corpus: BleuScores; items: BleuScores[] } {
  const counts = checkCaptions(captions).map(countCaption)
  const total = counts.reduce((sum, one) => ({
    candidateLength: sum.candidateLength + one.candidateLength,
    referenceLength: sum.referenceLength + one.referenceLength,
    correct: sum.correct.map((value, i) => value + one.correct[i]!),
    guessed: sum.guessed.map((value, i) => value + one.guessed[i]!),
  }))
  return { corpus: scores(total), items: counts.map(scores) }
}

function countCaption({ candidate, references }: TokenizedCaption): BleuCounts {
  const own = countNgrams(candidate)
  const others = references.map(countNgrams)
  const correct = own.map((counts, i) => {
    let sum = 0
    for (const [ngram, count] of counts) {
      sum += Math.min(count, Math.max(...others.map((other) => other[i]!.get(ngram) ?? 0)))
    }
    return sum
  })
  return {
    candidateLength: candidate.length,
    referenceLength: closestLength(candidate.length, references),
    correct,
    guessed: correct.map((_, i) => Math.max(0, candidate.length - i)),
  }
}

function closestLength(length: number, references: TokenizedCaption['references']): number {
  let best = references[0]!.length
  for (const { length: other } of references) {
    const nearer = Math.abs(other - length) - Math.abs(best - length)
    if (nearer < 0 || (nearer === 0 && other < best)) best = other
  }
  return best
}

function scores({ candidateLength, referenceLength, correct, guessed }: BleuCounts): BleuScores {
  const ratio = (candidateLength + tiny) / (referenceLength + small)
  const brevity = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1
  let product = 1
  const result = Array.from({ length: maxOrder }, (_, i) => {
    product *= (correct[i]! + tiny) / (guessed[i]! + small)
    return product ** (1 / (i + 1)) * brevity
  })
  return result as BleuScores
}
