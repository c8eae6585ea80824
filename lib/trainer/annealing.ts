import { expectInteger, expectNumber, outOfRange, rejectUnknownKeys, typeMismatch } from '../validate.ts'

/** A number that goes from one value to another along half a cosine, and stays there. */
export interface Annealing {
  from: number
  to: number
  /** Updates until `to` is reached, at least 1. */
  steps: number
}

/** A number, or one that changes over the steps. */
export type Annealed = number | Annealing

/** The value for the update that comes after `step` updates (so 0 is the first, which gets `from`). */
export function annealedAt(step: number, value: Annealed): number {
  if (typeof value === 'number') return value
  const { from, to, steps } = value
  return to + (from - to) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, step / steps)))
}

/** Checks such a value: finite numbers of at least 0, or above 0 where `positive` is set. */
export function resolveAnnealed(name: string, value: unknown, positive: boolean): Annealed {
  const check = (part: string, given: unknown) => {
    const number = expectNumber(part, given, { min: 0, max: 1e30 })
    if (positive && number === 0) throw outOfRange(part, 'a number above 0', number)
    return number
  }
  if (typeof value === 'number') return check(name, value)
  if (typeof value !== 'object' || value === null) {
    throw typeMismatch(name, 'a number or { from, to, steps }', value)
  }
  rejectUnknownKeys(name, value, ['from', 'to', 'steps'])
  const { from, to, steps } = value as Annealing
  return {
    from: check(`${name}.from`, from),
    to: check(`${name}.to`, to),
    steps: expectInteger(`${name}.steps`, steps, { min: 1 }),
  }
}
