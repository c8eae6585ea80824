/** Times of one thing, in milliseconds, and what they come to. */
export interface Distribution {
  samples: number[]
  median: number
  p10: number
  p90: number
}

/**
 * The value below which the share `q` (0 to 1) of the numbers lies, between neighbours by linear interpolation.
 *
 * @throws RangeError for no numbers, and for numbers that are not finite: a time that is NaN is a broken measurement
 */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) throw new RangeError('Expected at least one number, received none')
  const bad = values.find((value) => !Number.isFinite(value))
  if (bad !== undefined) throw new RangeError(`Expected finite numbers, received ${bad}`)
  const sorted = values.toSorted((a, b) => a - b)
  const position = q * (sorted.length - 1)
  const below = sorted[Math.floor(position)]!
  const above = sorted[Math.ceil(position)]!
  return below + (above - below) * (position - Math.floor(position))
}

/** Median and deciles of some times. */
export function distribution(samples: readonly number[]): Distribution {
  return {
    samples: [...samples],
    median: quantile(samples, 0.5),
    p10: quantile(samples, 0.1),
    p90: quantile(samples, 0.9),
  }
}
