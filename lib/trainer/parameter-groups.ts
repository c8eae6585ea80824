import { expectNumber, expectString, rejectUnknownKeys, typeMismatch } from '../validate.ts'

/** Weights that learn otherwise than the rest. */
export interface ParameterGroup {
  /**
   * Names of weights as in the checkpoint, in which `*` stands for any characters: `'blocks.0.*'`, `['*_embedding.weight',
   * '*_position.weight']`. A name that no weight has is an error.
   */
  weights: string | readonly string[]
  /**
   * What their learning rate is multiplied by; 1 unless given. 0 freezes them: they get no gradient and no moments, do not decay, and
   * nothing is computed for layers below which all is frozen. A frozen codebook gets no first and no revived codes either.
   */
  learningRateScale?: number
  /** Instead of the trainer's. */
  weightDecay?: number
}

/** A group with its defaults. */
export interface ResolvedParameterGroup {
  weights: readonly string[]
  learningRateScale: number
  weightDecay?: number
}

/** Checks groups and fills in the defaults. */
export function resolveGroups(groups: unknown): readonly ResolvedParameterGroup[] {
  if (!Array.isArray(groups)) throw typeMismatch('groups', 'an array of groups of weights', groups)
  return groups.map((group: ParameterGroup, i) => {
    const name = `groups[${i}]`
    if (typeof group !== 'object' || group === null) throw typeMismatch(name, 'an object with weights', group)
    rejectUnknownKeys(name, group, ['weights', 'learningRateScale', 'weightDecay'])
    const weights: readonly unknown[] = Array.isArray(group.weights) ? group.weights : [group.weights]
    if (weights.length === 0) throw typeMismatch(`${name}.weights`, 'names of weights', group.weights)
    return {
      weights: weights.map((pattern, j) => expectString(`${name}.weights[${j}]`, pattern)),
      learningRateScale: expectNumber(`${name}.learningRateScale`, group.learningRateScale ?? 1, { min: 0 }),
      ...(group.weightDecay === undefined
        ? {}
        : { weightDecay: expectNumber(`${name}.weightDecay`, group.weightDecay, { min: 0 }) }),
    }
  })
}
