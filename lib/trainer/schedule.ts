/** How the learning rate goes on after the warm-up. */
export const SCHEDULES = Object.freeze(['constant', 'cosine'] as const)

/** One of {@link SCHEDULES}. */
export type Schedule = (typeof SCHEDULES)[number]

/** What decides the learning rate of every step. */
export interface LearningRatePlan {
  /** The highest rate, reached at the end of the warm-up. */
  learningRate: number
  /** Steps over which the rate rises in a line; 0: none. */
  warmupSteps: number
  schedule: Schedule
  /** The step at which `cosine` arrives at `minLearningRate`, above `warmupSteps`; later steps stay there. */
  totalSteps: number
  minLearningRate: number
}

/**
 * The learning rate of the update that comes after `step` updates (so 0 is the first). It is never 0 in the warm-up: the first
 * of w steps gets 1/w of the rate, the last all of it.
 */
export function learningRateAt(step: number, plan: LearningRatePlan): number {
  const { learningRate, warmupSteps, schedule, totalSteps, minLearningRate } = plan
  if (step < warmupSteps) return (learningRate * (step + 1)) / warmupSteps
  if (schedule === 'constant') return learningRate
  const progress = Math.min(1, (step - warmupSteps) / (totalSteps - warmupSteps))
  return minLearningRate + (learningRate - minLearningRate) * 0.5 * (1 + Math.cos(Math.PI * progress))
}
