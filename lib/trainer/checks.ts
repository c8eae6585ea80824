import { expectNumber, outOfRange, rejectUnknownKeys } from '../validate.ts'

/** Weights by name, those not given from `defaults`; not all 0. */
export function resolveWeights<Key extends string>(
  name: string,
  weights: Partial<Record<Key, number>>,
  defaults: Readonly<Record<Key, number>>,
): Record<Key, number> {
  const keys = Object.keys(defaults) as Key[]
  rejectUnknownKeys(name, weights, keys)
  const entries = keys.map((key) => {
    return [key, expectNumber(`${name}.${key}`, weights[key] ?? defaults[key], { min: 0 })] as const
  })
  if (entries.every(([, weight]) => weight === 0)) throw outOfRange(name, 'a weight above 0', weights)
  return Object.fromEntries(entries) as Record<Key, number>
}

/** A finite number above 0. */
export function positive(name: string, value: unknown): number {
  if (expectNumber(name, value, { min: 0 }) === 0) throw outOfRange(name, 'a number above 0', value)
  return value as number
}

/** A number from 0 to below 1. */
export function belowOne(name: string, value: unknown): number {
  if (expectNumber(name, value, { min: 0 }) >= 1) throw outOfRange(name, 'a number from 0 to below 1', value)
  return value as number
}
