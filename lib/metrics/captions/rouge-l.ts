import { checkCaptions, type TokenizedCaption } from './tokens.ts'

/** How much more recall counts than precision, as coco-caption has it. */
const beta = 1.2

/**
 * ROUGE-L (Lin, "ROUGE: a package for automatic evaluation of summaries", 2004) as coco-caption computes it: with the longest common
 * subsequence of the candidate and each reference, the best precision P and the best recall R over all references, which may come from two of
 * them, make (1 + b^2) P R / (R + b^2 P) with b = 1.2.
 *
 * @returns `corpus`: the mean of `items`. In [0, 1]; 0 where nothing is common.
 * @throws ERR_VILG_INVALID_ARGUMENT
 */
export function rougeL(captions: readonly TokenizedCaption[]): { corpus: number; items: number[] } {
  const items = checkCaptions(captions).map(({ candidate, references }) => {
    const common = references.map((reference) => commonSubsequence(candidate, reference))
    const longest = Math.max(...common)
    if (longest === 0) return 0
    const precision = longest / candidate.length
    const recall = Math.max(...common.map((length, i) => (length === 0 ? 0 : length / references[i]!.length)))
    return ((1 + beta ** 2) * precision * recall) / (recall + beta ** 2 * precision)
  })
  return { corpus: items.reduce((sum, one) => sum + one, 0) / items.length, items }
}

/** The length of the longest common subsequence. */
function commonSubsequence(a: readonly string[], b: readonly string[]): number {
  // lengths[j]: of what was read of a, and the first j tokens of b
  const lengths = new Uint32Array(b.length + 1)
  for (const token of a) {
    let diagonal = 0
    for (let j = 0; j < b.length; j++) {
      const above = lengths[j + 1]!
      lengths[j + 1] = token === b[j] ? diagonal + 1 : Math.max(above, lengths[j]!)
      diagonal = above
    }
  }
  return lengths[b.length]!
}
