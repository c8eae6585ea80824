/** The longest n-grams that BLEU and CIDEr count. */
export const maxOrder = 4

/** How often each n-gram of one length occurs. */
export type NgramCounts = ReadonlyMap<string, number>

/** The n-grams of one to {@link maxOrder} tokens: `counts[n - 1]` has those of n. */
export function countNgrams(tokens: readonly string[]): NgramCounts[] {
  return Array.from({ length: maxOrder }, (_, i) => {
    const counts = new Map<string, number>()
    for (let first = 0; first + i < tokens.length; first++) {
      // as JSON: tokens may hold any character, spaces too
      const key = i === 0 ? tokens[first]! : JSON.stringify(tokens.slice(first, first + i + 1))
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
    return counts
  })
}
