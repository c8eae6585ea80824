/** A value and its 95 % confidence interval. */
export interface Estimate {
  value: number
  /** Null where there is too little data for an interval. */
  interval: { low: number; high: number } | null
}

const confidence = 0.95
const normalQuantile = 1.959963984540054 // of (1 + confidence) / 2

/** The mean of values, which must be some. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/**
 * The mean of independent values with Student's interval, mean ± t(n - 1) s / sqrt(n); without an interval for one value, and null for none.
 */
export function meanEstimate(values: readonly number[]): Estimate | null {
  const count = values.length
  if (count === 0) return null
  const value = mean(values)
  if (count === 1) return { value, interval: null }
  const variance = values.reduce((sum, one) => sum + (one - value) ** 2, 0) / (count - 1)
  const half = studentQuantile(count - 1) * Math.sqrt(variance / count)
  return { value, interval: { low: value - half, high: value + half } }
}

/**
 * A share with Wilson's score interval (Wilson, "Probable inference, the law of succession, and statistical inference", 1927); null for no
 * trials.
 */
export function shareEstimate(successes: number, trials: number): Estimate | null {
  if (trials === 0) return null
  const share = successes / trials
  const z2 = normalQuantile ** 2
  const middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
  const half =
    (normalQuantile / (1 + z2 / trials)) * Math.sqrt((share * (1 - share)) / trials + z2 / (4 * trials ** 2))
  // The ends touch 0 and 1 only where all trials agree; rounding must not carry them beyond.
  const low = successes === 0 ? 0 : Math.max(0, middle - half)
  const high = successes === trials ? 1 : Math.min(1, middle + half)
  return { value: share, interval: { low, high } }
}

/** The middle value; the mean of the middle two of an even number. Null for none. */
export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}

/** The t that Student's distribution keeps within ± t with the probability of the intervals, for 1 or more degrees of freedom. */
export function studentQuantile(freedom: number): number {
  let low = 0
  let high = 13 // above the 12.71 of one degree of freedom, which is the greatest
  for (let round = 0; round < 60; round++) {
    const middle = (low + high) / 2
    if (studentWithin(middle, freedom) < confidence) low = middle
    else high = middle
  }
  return (low + high) / 2
}

/** P(|T| <= t) for whole degrees of freedom: the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4. */
function studentWithin(t: number, freedom: number): number {
  const angle = Math.atan2(t, Math.sqrt(freedom))
  const cosine2 = Math.cos(angle) ** 2
  const isOdd = freedom % 2 === 1
  let term = isOdd ? Math.cos(angle) : 1
  let sum = freedom === 1 ? 0 : term
  for (let k = isOdd ? 3 : 2; k < freedom; k += 2) {
    term *= (cosine2 * (k - 1)) / k
    sum += term
  }
  const series = Math.sin(angle) * sum
  return isOdd ? (2 / Math.PI) * (angle + series) : series
}
