/** How a share was counted. */
export interface Share {
  /** How many were tried. */
  count: number
  correct: number
  /** correct / count. */
  share: number
}

/** The share of what came out right. */
export function share(outcomes: readonly boolean[]): Share {
  const correct = outcomes.filter((outcome) => outcome).length
  return { count: outcomes.length, correct, share: correct / outcomes.length }
}
