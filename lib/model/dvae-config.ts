import { expectInteger, expectNumber, expectOneOf, outOfRange } from '../validate.ts'
import { checkConfigKeys, type ConfigKeys } from './config-file.ts'

/** An image tokenizer like DALL-E's: a discrete VAE. */
export interface DvaeConfig {
  /** What kind of model the folder holds. */
  model: 'dvae'
  /** Side of its pictures in pixels, a multiple of 2^(groups - 1); at most 16384; 256 unless given. */
  resolution?: number
  /** Channels at full size, a multiple of 4; doubled each time the side is halved. */
  hidden: number
  /** Channels of what the decoder makes of a code. */
  initial: number
  /** Residual blocks of a group. */
  blocksPerGroup: number
  /** From full size, each group after the first at half the side of the one before. */
  groups: number
  /** Codes: image tokens are 0 to codebookSize - 1. */
  codebookSize: number
  /** Pixels are mapped to epsilon to 1 - epsilon, where their likelihood is defined; above 0 and below 0.5. */
  epsilon: number
}

const keys: ConfigKeys = {
  known: ['model', 'resolution', 'hidden', 'initial', 'blocksPerGroup', 'groups', 'codebookSize', 'epsilon'],
  unsupported: [],
}

/**
 * Checks a dVAE's configuration and returns a copy of it with every field.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT (TypeError, RangeError) for fields that are missing, unknown or out of range
 */
export function checkDvaeConfig(config: unknown): Readonly<Required<DvaeConfig>> {
  const name = 'the dvae config'
  checkConfigKeys(name, config, keys)
  const given = config as DvaeConfig
  const size = (key: keyof DvaeConfig, max: number, value: unknown = given[key]) =>
    expectInteger(`${key} of ${name}`, value, { min: 1, max })
  const checked = {
    model: expectOneOf(`model of ${name}`, given.model, ['dvae']),
    resolution: size('resolution', 2 ** 14, given.resolution ?? 256),
    hidden: size('hidden', 2 ** 14),
    initial: size('initial', 2 ** 14),
    blocksPerGroup: size('blocksPerGroup', 64),
    groups: size('groups', 8),
    codebookSize: size('codebookSize', 2 ** 24),
    epsilon: expectNumber(`epsilon of ${name}`, given.epsilon, { min: 0, max: 0.5 }),
  }
  const { resolution, hidden, groups, epsilon } = checked
  const side = 2 ** (groups - 1)
  if (hidden % 4 !== 0) throw outOfRange(`hidden of ${name}`, 'a multiple of 4', hidden)
  if (resolution % side !== 0) {
    throw outOfRange(`resolution of ${name}`, `a multiple of ${side}, 2 a group after the first,`, resolution)
  }
  if (epsilon === 0 || epsilon === 0.5) {
    throw outOfRange(`epsilon of ${name}`, 'a number above 0 and below 0.5', epsilon)
  }
  return Object.freeze(checked)
}
