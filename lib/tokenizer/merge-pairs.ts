import { Heap } from './heap.ts'

/** What becomes of two neighbours, by their pair's key: their common symbol, the lowest rank first. */
export type PairRules = ReadonlyMap<number, { rank: number; whole: number }>

/** Two neighbours that a rule joins: where the left one stands, and both symbols as they were when this was found. */
interface Meeting {
  rank: number
  at: number
  left: number
  right: number
  whole: number
}

/**
 * Byte-pair encoding of one word: joins neighbours by the rule of the lowest rank, the leftmost where several are, until none applies. Takes
 * time in n log n.
 */
export function mergePairs(
  symbols: readonly number[],
  rules: PairRules,
  keyOf: (left: number, right: number) => number,
): number[] {
  const length = symbols.length
  const current = [...symbols]
  // a list of what is left, by places; -1 past its ends
  const next = current.map((_, i) => (i + 1 < length ? i + 1 : -1))
  const previous = current.map((_, i) => i - 1)
  const gone = new Uint8Array(length)
  const queue = new Heap<Meeting>((a, b) => a.rank < b.rank || (a.rank === b.rank && a.at < b.at))
  const meet = (at: number) => {
    const right = at < 0 ? -1 : next[at]!
    const rule = right < 0 ? undefined : rules.get(keyOf(current[at]!, current[right]!))
    if (rule !== undefined) queue.push({ ...rule, at, left: current[at]!, right: current[right]! })
  }
  for (let i = 0; i + 1 < length; i++) meet(i)
  for (let meeting = queue.pop(); meeting !== undefined; meeting = queue.pop()) {
    const { at, left, right, whole } = meeting
    const second = next[at]!
    // one of them has joined another since
    if (gone[at] === 1 || second < 0 || current[at] !== left || current[second] !== right) continue
    current[at] = whole
    gone[second] = 1
    next[at] = next[second]!
    if (next[at] >= 0) previous[next[at]] = at
    meet(previous[at]!)
    meet(at)
  }
  return current.filter((_, i) => gone[i] === 0)
}
