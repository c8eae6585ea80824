import type { GeneratorConfig } from '../../model/generator-config.ts'
import type { VqganConfig } from '../../model/image-tokenizer-config.ts'
import type { MatcherConfig } from '../../model/matcher-config.ts'
import type { SamplingDefaults } from '../../sampler/options.ts'
import { expectInteger, expectNumber, outOfRange, rejectUnknownKeys, typeMismatch } from '../../validate.ts'
import type { TrainerOptions } from '../options.ts'

/** All that decides what becomes of pairs of pictures and captions: the settings of every stage. */
export interface BundleTrainingConfig {
  text: {
    /** The most tokens of the vocabulary; at least its characters and 5. */
    vocabularySize: number
  }
  imageTokenizer: StageConfig & { model: VqganConfig }
  generator: StageConfig & {
    /** Without textVocab, which the text stage decides. */
    model: Omit<GeneratorConfig, 'textVocab'>
    /** How often a picture comes with its first caption; the others share the rest. */
    nameShare: number
    /**
     * Pairs a step that are described, in a batch of their own: describing is learnt long before drawing is. Unless given, the pairs that
     * are drawn. Not together with `accumulate`.
     */
    describedBatch?: number | undefined
    /** Steps between pictures drawn by the unfinished model. */
    sampleEvery: number
  }
  /** Where a matcher is wanted. */
  matcher?: StageConfig & {
    /** Without textVocab, which the text stage decides. */
    model: Omit<MatcherConfig, 'textVocab'>
    /** How often a picture comes with its first caption; the others share the rest. */
    nameShare: number
  }
  /** How the finished model draws unless it is told otherwise. */
  sampling: SamplingDefaults
}

/** How a model is trained. */
export interface StageConfig {
  training: TrainerOptions
  /** Pairs a step. */
  batch: number
  steps: number
  evaluateEvery: number
  seed: number
}

/** Sides of pictures that {@link defaultBundleConfig} has an image tokenizer for. */
export const DEFAULT_SIZES = Object.freeze([32, 64, 128, 256] as const)

const grid = 16
const codes = 1024
const batch = 16
/** Of channels, by the number of levels: 2 for pictures of 32 pixels (reduction 2), 5 for 256 (reduction 16). */
const multipliers: Readonly<Record<number, readonly number[]>> = {
  2: [1, 2],
  3: [1, 2, 4],
  4: [1, 2, 4, 4],
  5: [1, 1, 2, 4, 4],
}

/**
 * Settings for a small model: 17 million weights, 16 x 16 tokens a picture, about 40 epochs for each half. What the emoji model of the
 * package was made with, but for the length of texts and the number of steps, which follows from the number of pictures.
 *
 * @param size side of the pictures, one of {@link DEFAULT_SIZES}
 * @param pairs pairs to train on
 */
export function defaultBundleConfig(size: number, pairs: number): BundleTrainingConfig {
  const levels = Math.log2(size / grid) + 1
  const perLevel = multipliers[levels]
  if (perLevel === undefined) throw outOfRange('size', `one of ${DEFAULT_SIZES.join(', ')}`, size)
  expectInteger('pairs', pairs, { min: 1 })
  const epochs = (count: number) => Math.min(20_000, Math.max(500, Math.ceil((count * pairs) / batch)))
  return {
    text: { vocabularySize: 8192 },
    imageTokenizer: {
      model: {
        model: 'vqgan',
        quantizer: 'nearest',
        resolution: size,
        channels: 32,
        multipliers: perLevel,
        residualBlocks: 1,
        attentionResolutions: [],
        latentChannels: 64,
        codebookSize: codes,
        codebookDim: 32,
      },
      training: {
        learningRate: 8e-4,
        warmupSteps: 50,
        schedule: 'cosine',
        minLearningRate: 2e-5,
        betas: [0.9, 0.99],
        clipNorm: 1,
        precision: 'bfloat16',
        lossWeights: { reconstruction: 1, absolute: 0.5, commitment: 0.25, codebook: 1 },
        reviveAfter: 100,
        seed: 11,
      },
      batch,
      steps: epochs(40),
      evaluateEvery: 500,
      seed: 12,
    },
    generator: {
      model: {
        model: 'ernie-vilg-generator',
        layers: 8,
        hidden: 384,
        heads: 6,
        imageVocab: codes,
        textLength: 64,
        grid,
        kernel: 11,
      },
      training: {
        learningRate: 1e-3,
        warmupSteps: 100,
        schedule: 'cosine',
        minLearningRate: 2e-5,
        betas: [0.9, 0.95],
        weightDecay: 0.01,
        clipNorm: 1,
        precision: 'bfloat16',
        seed: 21,
      },
      batch,
      steps: epochs(40),
      evaluateEvery: 500,
      seed: 22,
      nameShare: 0.4,
      describedBatch: undefined,
      sampleEvery: 1000,
    },
    sampling: { temperature: 0.8, topK: 0, topP: 0.95 },
  }
}

/**
 * Settings to go on with a trained generator: a learning rate that keeps what it knows, 10 epochs.
 *
 * @param pairs pairs to train on
 */
export function fineTuningConfig(config: BundleTrainingConfig, pairs: number): BundleTrainingConfig {
  const { generator } = config
  const steps = Math.min(20_000, Math.max(100, Math.ceil((10 * pairs) / generator.batch)))
  const training = { ...generator.training, learningRate: 1e-4, warmupSteps: 20, minLearningRate: 1e-5 }
  return { ...config, generator: { ...generator, training, steps } }
}

/**
 * A config with changes, an object of the same shape with any part of it; arrays are replaced whole. Cosine schedules end with the
 * last step unless they say otherwise.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT naming a key that is not one of a config; models and trainers check their own parts when they are made
 */
export function changeBundleConfig(config: BundleTrainingConfig, changes: unknown): BundleTrainingConfig {
  const known = structuredClone(config) as unknown as Record<string, unknown>
  const changed = merge('config', known, changes, false) as unknown as BundleTrainingConfig
  for (const name of ['imageTokenizer', 'generator'] as const) {
    const { training, steps, batch: size, evaluateEvery, seed } = changed[name]
    expectInteger(`config.${name}.steps`, steps, { min: 1 })
    expectInteger(`config.${name}.batch`, size, { min: 1 })
    expectInteger(`config.${name}.evaluateEvery`, evaluateEvery, { min: 1 })
    expectInteger(`config.${name}.seed`, seed, { min: 0 })
    if (training.schedule === 'cosine') training.totalSteps ??= steps
  }
  expectInteger('config.text.vocabularySize', changed.text.vocabularySize, { min: 1 })
  expectInteger('config.generator.sampleEvery', changed.generator.sampleEvery, { min: 1 })
  expectNumber('config.generator.nameShare', changed.generator.nameShare, { min: 0, max: 1 })
  const { describedBatch, training } = changed.generator
  if (describedBatch !== undefined) {
    expectInteger('config.generator.describedBatch', describedBatch, { min: 1 })
    if (training.accumulate !== undefined)
      throw outOfRange(
        'config.generator.training.accumulate',
        'none with describedBatch',
        training.accumulate,
      )
  }
  return changed
}

/** The parts that a model or trainer checks itself take any key. */
const openParts: ReadonlySet<string> = new Set(['model', 'training'])

function merge(
  path: string,
  known: Record<string, unknown>,
  changes: unknown,
  isOpen: boolean,
): Record<string, unknown> {
  if (changes === undefined) return known
  if (typeof changes !== 'object' || changes === null || Array.isArray(changes))
    throw typeMismatch(path, 'an object', changes)
  if (!isOpen) rejectUnknownKeys(path, changes, Object.keys(known))
  const result = { ...known }
  for (const [key, value] of Object.entries(changes)) {
    const old = known[key]
    const isPart = typeof old === 'object' && old !== null && !Array.isArray(old)
    result[key] = isPart
      ? merge(`${path}.${key}`, old as Record<string, unknown>, value, isOpen || openParts.has(key))
      : value
  }
  return result
}
