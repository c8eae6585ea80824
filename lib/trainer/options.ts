import {
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOneOf,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { belowOne, positive, resolveWeights } from './checks.ts'
import {
  DEFAULT_DVAE_OPTIONS,
  DEFAULT_VQGAN_OPTIONS,
  type DvaeTrainerOptions,
  type ResolvedDvaeOptions,
  type ResolvedVqganOptions,
  resolveDvaeOptions,
  resolveVqganOptions,
  type VqganTrainerOptions,
} from './image-tokenizer-options.ts'
import { type ParameterGroup, resolveGroups, type ResolvedParameterGroup } from './parameter-groups.ts'
import { SCHEDULES, type Schedule } from './schedule.ts'

/** What a trainer can train: `image-tokenizer` is a vqgan. */
export const TARGET_KINDS = Object.freeze(['generator', 'image-tokenizer', 'dvae', 'matcher'] as const)

/** One of {@link TARGET_KINDS}. */
export type TargetKind = (typeof TARGET_KINDS)[number]

/** The types that products may be computed in. Weights, sums and states are float32 always. */
export const COMPUTE_PRECISIONS = Object.freeze(['float32', 'bfloat16'] as const)

/** One of {@link COMPUTE_PRECISIONS}. */
export type ComputePrecision = (typeof COMPUTE_PRECISIONS)[number]

/** Weights of the two losses of a generator (0 leaves a direction out, which costs nothing then); not both 0. */
export interface DirectionWeights {
  textToImage?: number
  imageToText?: number
}

/**
 * Options of a trainer; those not given are in {@link DEFAULT_TRAINER_OPTIONS}. Those of {@link VqganTrainerOptions} are for a vqgan
 * only, those of {@link DvaeTrainerOptions} for a dvae.
 */
export interface TrainerOptions extends VqganTrainerOptions, DvaeTrainerOptions {
  /** The highest learning rate, above 0. */
  learningRate?: number
  /** Steps over which it rises from nothing. */
  warmupSteps?: number
  /** `cosine` needs `totalSteps`. */
  schedule?: Schedule
  /** Where `cosine` ends; above `warmupSteps`. */
  totalSteps?: number
  /** What `cosine` ends at; up to `learningRate`. */
  minLearningRate?: number
  /** How much of the old moments AdamW keeps a step, each from 0 to below 1; 0.5 and 0.9 unless given with a discriminator. */
  betas?: readonly [number, number]
  /** Added to the root of AdamW's second moment; above 0. */
  epsilon?: number
  /** Of the matrices of the layers; norms, biases and embeddings are left alone. */
  weightDecay?: number
  /** A longer gradient is scaled down to this norm; 0 turns it off. */
  clipNorm?: number
  /**
   * Weights of the target that learn otherwise than the rest, or not at all: for fine-tuning. Of several groups that name a weight the first
   * decides.
   */
  groups?: readonly ParameterGroup[]
  /** Micro-batches a step; together they count as one batch. */
  accumulate?: number
  /** The type of the products. */
  precision?: ComputePrecision
  /**
   * Whether layers (of an image tokenizer: residual and attention blocks) keep only their input and run again for their gradients: the same
   * bits in a third more work, and the memory of one layer instead of all.
   */
  recompute?: boolean
  /** Decides what is random in training (which vectors replace dead codes, the noise of a dvae); 0 to 2^53 - 1. */
  seed?: number
  /** Generators only. */
  directionWeights?: DirectionWeights
  /** Generators only: the share of the target that is spread over all tokens, from 0 to below 1. */
  labelSmoothing?: number
  /** Generators only: weight of the squared logarithm of the softmax's sum, which keeps logits small. */
  zLoss?: number
}

/** Every option with its value. Options that a target does not have, and unneeded ones of the schedule, are undefined. */
export interface ResolvedTrainerOptions extends Partial<ResolvedVqganOptions>, Partial<ResolvedDvaeOptions> {
  learningRate: number
  warmupSteps: number
  schedule: Schedule
  totalSteps?: number
  minLearningRate?: number
  betas: readonly [number, number]
  epsilon: number
  weightDecay: number
  clipNorm: number
  groups: readonly ResolvedParameterGroup[]
  accumulate: number
  precision: ComputePrecision
  recompute: boolean
  seed: number
  directionWeights?: Required<DirectionWeights>
  labelSmoothing?: number
  zLoss?: number
}

/** The options of a trainer where none are given. */
export const DEFAULT_TRAINER_OPTIONS = Object.freeze({
  learningRate: 3e-4,
  warmupSteps: 0,
  schedule: 'constant',
  minLearningRate: 0,
  betas: Object.freeze([0.9, 0.95] as const),
  epsilon: 1e-8,
  weightDecay: 0,
  clipNorm: 1,
  groups: Object.freeze([]),
  accumulate: 1,
  precision: 'float32',
  recompute: false,
  seed: 0,
  directionWeights: Object.freeze({ textToImage: 1, imageToText: 1 }),
  labelSmoothing: 0,
  zLoss: 0,
  ...DEFAULT_VQGAN_OPTIONS,
  ...DEFAULT_DVAE_OPTIONS,
} as const satisfies TrainerOptions)

/** Those of Adam beside a discriminator, which taming-transformers took over from GANs. */
const adversarialBetas = [0.5, 0.9] as const

const commonKeys = [
  'learningRate',
  'warmupSteps',
  'schedule',
  'totalSteps',
  'minLearningRate',
  'betas',
  'epsilon',
  'weightDecay',
  'clipNorm',
  'groups',
  'accumulate',
  'precision',
  'recompute',
  'seed',
] as const
const kindKeys = {
  generator: ['directionWeights', 'labelSmoothing', 'zLoss'],
  'image-tokenizer': [
    'lossWeights',
    'perceptual',
    'discriminator',
    'codebookAverages',
    'codebookRate',
    'reviveAfter',
    'initializeCodebook',
  ],
  dvae: ['temperature', 'divergenceWeight', 'straightThrough'],
  matcher: [],
} as const satisfies Record<TargetKind, readonly (keyof TrainerOptions)[]>

/** The keys of {@link TrainerOptions} that a target of this kind has. */
export function trainerOptionKeys(kind: TargetKind): readonly (keyof TrainerOptions)[] {
  return [...commonKeys, ...kindKeys[kind]]
}

/** Checks options and fills in the defaults. Throws `ERR_VILG_INVALID_ARGUMENT` for what does not fit `kind` too. */
export function resolveTrainerOptions(
  kind: TargetKind,
  options: TrainerOptions = {},
): ResolvedTrainerOptions {
  rejectUnknownKeys(`trainer options (${kind})`, options, trainerOptionKeys(kind))
  const given = { ...DEFAULT_TRAINER_OPTIONS, ...withoutUndefined(options) } as Required<TrainerOptions>
  const warmupSteps = expectInteger('warmupSteps', given.warmupSteps, { min: 0 })
  const learningRate = positive('learningRate', given.learningRate)
  return {
    learningRate,
    warmupSteps,
    ...resolveSchedule(options, learningRate, warmupSteps),
    betas: resolveBetas(
      options.betas ?? (options.discriminator === undefined ? given.betas : adversarialBetas),
    ),
    epsilon: positive('epsilon', given.epsilon),
    weightDecay: expectNumber('weightDecay', given.weightDecay, { min: 0 }),
    clipNorm: expectNumber('clipNorm', given.clipNorm, { min: 0 }),
    groups: resolveGroups(given.groups),
    accumulate: expectInteger('accumulate', given.accumulate, { min: 1 }),
    precision: expectOneOf('precision', given.precision, COMPUTE_PRECISIONS),
    recompute: expectBoolean('recompute', given.recompute),
    seed: expectInteger('seed', given.seed, { min: 0 }),
    ...kindResolvers[kind](given),
  }
}

function resolveSchedule(options: TrainerOptions, learningRate: number, warmupSteps: number) {
  const schedule = expectOneOf('schedule', options.schedule ?? DEFAULT_TRAINER_OPTIONS.schedule, SCHEDULES)
  if (schedule === 'constant') {
    for (const key of ['totalSteps', 'minLearningRate'] as const) {
      // it would be ignored
      if (options[key] !== undefined) throw outOfRange(key, "none without schedule: 'cosine'", options[key])
    }
    return { schedule }
  }
  return {
    schedule,
    totalSteps: expectInteger('totalSteps', options.totalSteps, { min: warmupSteps + 1 }),
    minLearningRate: expectNumber(
      'minLearningRate',
      options.minLearningRate ?? DEFAULT_TRAINER_OPTIONS.minLearningRate,
      { min: 0, max: learningRate },
    ),
  }
}

function resolveBetas(betas: unknown): readonly [number, number] {
  if (!Array.isArray(betas) || betas.length !== 2) throw typeMismatch('betas', 'two numbers', betas)
  const [first, second] = betas.map((value, i) => belowOne(`betas[${i}]`, value))
  return [first!, second!]
}

function resolveGeneratorOptions(given: Required<TrainerOptions>) {
  const directionWeights = resolveWeights(
    'directionWeights',
    given.directionWeights,
    DEFAULT_TRAINER_OPTIONS.directionWeights,
  )
  return {
    directionWeights,
    labelSmoothing: belowOne('labelSmoothing', given.labelSmoothing),
    zLoss: expectNumber('zLoss', given.zLoss, { min: 0 }),
  }
}

const kindResolvers = {
  generator: resolveGeneratorOptions,
  'image-tokenizer': resolveVqganOptions,
  dvae: resolveDvaeOptions,
  matcher: () => ({}),
} as const

function withoutUndefined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>
}
