/** A score of a cosine: 1 / (1 + exp(-slope (cosine - midpoint))). */
export interface Calibration {
  /** The cosine of a score of 0.5. */
  midpoint: number
  /** Above 0: how fast scores change around it. */
  slope: number
}

/** Of a matcher that was not calibrated: 0.5 for vectors at right angles, a guess. */
export const DEFAULT_CALIBRATION: Calibration = Object.freeze({ midpoint: 0, slope: 10 })

/** The score of a cosine, in (0, 1). */
export function scoreOf(cosine: number, { midpoint, slope }: Calibration): number {
  return 1 / (1 + Math.exp(-slope * (cosine - midpoint)))
}

const mostSteps = 100

/**
 * Fits scores to cosines of pairs that belong together and of pairs that do not, so that at 0.5 either is as likely as the other where both
 * are as frequent: logistic regression on the cosine with targets of Platt (1999, "Probabilistic outputs for support vector
 * machines", 2.2), which keep the slope finite where no cosine of one kind is among those of the other. Both kinds have those of the rarer
 * one, or 0.5 would lie nearer to the other where the two are hardly apart.
 *
 * @returns undefined where cosines do not rise from one kind to the other
 */
export function fitCalibration(
  matches: readonly number[],
  others: readonly number[],
): Calibration | undefined {
  const doubt = 1 / (Math.min(matches.length, others.length) + 2)
  const kinds = [
    { cosines: matches, target: 1 - doubt },
    { cosines: others, target: doubt },
  ]
  // logit = slope * cosine + offset, from no knowledge at all; each kind counts half
  let [slope, offset] = [0, 0]
  const loss = (a: number, b: number) =>
    sumOver(kinds, (cosine, target) => softplus(a * cosine + b) - target * (a * cosine + b))
  for (let step = 0; step < mostSteps; step++) {
    const at = (share: (p: number, target: number, cosine: number) => number) =>
      sumOver(kinds, (cosine, target) => share(scoreAt(slope * cosine + offset), target, cosine))
    const [g1, g0] = [at((p, t, x) => (p - t) * x), at((p, t) => p - t)]
    // a tiny ridge: all cosines may be the same
    const h11 = at((p, _, x) => p * (1 - p) * x * x) + 1e-12
    const h10 = at((p, _, x) => p * (1 - p) * x)
    const h00 = at((p) => p * (1 - p)) + 1e-12
    const determinant = h11 * h00 - h10 * h10
    const [d1, d0] = [(h00 * g1 - h10 * g0) / determinant, (h11 * g0 - h10 * g1) / determinant]
    // Newton's step, halved until it is one down
    const before = loss(slope, offset)
    let size = 1
    while (size > 1e-6 && !(loss(slope - size * d1, offset - size * d0) <= before)) size /= 2
    if (size <= 1e-6) break
    slope -= size * d1
    offset -= size * d0
    if (Math.abs(size * d1) <= 1e-9 * Math.abs(slope)) break
  }
  if (!(slope > 0)) return undefined
  return Object.freeze({ midpoint: -offset / slope, slope })
}

/** The mean over each kind, added up. */
function sumOver(
  kinds: readonly { cosines: readonly number[]; target: number }[],
  value: (cosine: number, target: number) => number,
): number {
  let sum = 0
  for (const { cosines, target } of kinds) {
    for (const cosine of cosines) sum += value(cosine, target) / cosines.length
  }
  return sum
}

const scoreAt = (logit: number): number => 1 / (1 + Math.exp(-logit))
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))
