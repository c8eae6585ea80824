import type { BundleTrainingConfig, StageConfig } from '../../lib/trainer/bundle/config.ts'

/** All that decides what the emoji model becomes. */
export interface EmojiConfig extends BundleTrainingConfig {
  matcher: NonNullable<BundleTrainingConfig['matcher']>
  data: {
    /** Side of the pictures, in pixels. */
    size: number
    seed: number
    /** Longest caption: a character is a token at most, so textLength less CLS and SEP. */
    maxCharacters: number
    heldOutShare: number
    /** Pictures to train on, and as many again at most to hold out; all unless given. */
    limit?: number
  }
  /** How the finished generator learns to answer questions. */
  answers: StageConfig & {
    /** Questions a step, beside `batch` pairs. */
    questionBatch: number
  }
}

const textLength = 24
const codes = 1024

/**
 * What the model in models/emoji is made with. The whole may take six hours of two cores.
 */
export const emojiConfig: EmojiConfig = {
  data: {
    size: 64, // in which the pictures are drawn
    seed: 1,
    maxCharacters: textLength - 2, // the longest name has 22 characters
    heldOutShare: 0.05,
  },
  text: {
    // 2,200 characters, and merged pieces of the few Latin words: no more are there to be had.
    vocabularySize: 3000,
  },
  imageTokenizer: {
    model: {
      model: 'vqgan',
      quantizer: 'nearest',
      resolution: 64,
      channels: 32, // GroupNorm has 32 groups, so no fewer; the cost grows with the square
      multipliers: [1, 2, 4], // reduction 4: eyes and mouths of a face are 2 to 4 pixels wide, which reduction 8 loses
      residualBlocks: 1,
      attentionResolutions: [], // in the middle there is one layer of it anyhow
      latentChannels: 64,
      codebookSize: codes,
      codebookDim: 32,
    },
    training: {
      learningRate: 8e-4,
      warmupSteps: 100,
      schedule: 'cosine',
      totalSteps: 2400,
      minLearningRate: 2e-5,
      betas: [0.9, 0.99],
      clipNorm: 1,
      precision: 'bfloat16',
      // PSNR counts squares; the absolute error keeps flat colours flat. Without commitment below 1 the encoder clings to its
      // first codes (0.25 as in the public VQGANs).
      lossWeights: { reconstruction: 1, absolute: 0.5, commitment: 0.25, codebook: 1 },
      codebookRate: { weight: 1 },
      reviveAfter: 40, // at 100, code use fell to a quarter before the first revival
      seed: 11,
    },
    batch: 16,
    steps: 2400, // 11 epochs
    evaluateEvery: 200,
    seed: 12,
  },
  generator: {
    model: {
      model: 'ernie-vilg-generator',
      // 8 million weights: with 17 million, two cores make half as many steps in the same time
      layers: 8, // of them 2 column, 1 conv, 5 row
      hidden: 256,
      heads: 4, // of 64
      imageVocab: codes,
      textLength,
      grid: 16,
      kernel: 11, // as in the paper; on this grid most of what was drawn
    },
    training: {
      learningRate: 1e-3,
      warmupSteps: 200,
      schedule: 'cosine',
      totalSteps: 9000,
      minLearningRate: 2e-5,
      betas: [0.9, 0.95],
      weightDecay: 0.01, // the training captions are to be learnt by heart: hardly any
      clipNorm: 1,
      precision: 'bfloat16',
      seed: 21,
    },
    batch: 12,
    describedBatch: 4, // describing needs far less training than drawing
    steps: 9000, // 30 epochs
    evaluateEvery: 500,
    seed: 22,
    nameShare: 0.4, // of six captions: likely enough to be the one that describes best
    sampleEvery: 1000,
  },
  answers: {
    training: {
      learningRate: 2e-4, // a quarter of that before: it is to keep what it knows
      warmupSteps: 50,
      schedule: 'cosine',
      totalSteps: 1500,
      minLearningRate: 1e-5,
      betas: [0.9, 0.95],
      weightDecay: 0.01,
      clipNorm: 1,
      precision: 'bfloat16',
      seed: 31,
    },
    batch: 8,
    questionBatch: 16,
    steps: 1500, // twice each of the 11,000 questions
    evaluateEvery: 250,
    seed: 32,
  },
  matcher: {
    model: {
      model: 'ernie-vilg-matcher',
      // 3.5 million weights in two towers: a fraction of the generator, as it only chooses
      layers: 3,
      hidden: 192,
      heads: 3, // of 64
      imageVocab: codes,
      textLength,
      grid: 16,
      kernel: 11,
      dim: 128,
    },
    training: {
      learningRate: 5e-4,
      warmupSteps: 100,
      schedule: 'cosine',
      totalSteps: 2000,
      minLearningRate: 1e-5,
      betas: [0.9, 0.98], // as CLIP's transformers
      weightDecay: 0.05,
      clipNorm: 1,
      precision: 'bfloat16',
      seed: 31,
    },
    batch: 64, // each picture against 63 others
    steps: 2000, // 36 epochs
    evaluateEvery: 250,
    seed: 32,
    nameShare: 0.4,
  },
  sampling: { temperature: 0.8, topK: 0, topP: 0.95 },
}

/** All stages in about a minute, to see that they work; what comes out is of no use. */
export const smallConfig: EmojiConfig = {
  data: { ...emojiConfig.data, size: 32, limit: 64 },
  text: emojiConfig.text,
  imageTokenizer: {
    ...emojiConfig.imageTokenizer,
    model: {
      ...emojiConfig.imageTokenizer.model,
      resolution: 32,
      multipliers: [1, 1, 1],
      latentChannels: 32,
      codebookSize: 128,
    },
    training: {
      ...emojiConfig.imageTokenizer.training,
      warmupSteps: 5,
      totalSteps: 60,
      reviveAfter: 10,
    },
    batch: 8,
    steps: 60,
    evaluateEvery: 30,
  },
  generator: {
    ...emojiConfig.generator,
    model: {
      ...emojiConfig.generator.model,
      layers: 3,
      hidden: 64,
      heads: 1,
      grid: 8,
      imageVocab: 128,
    },
    training: { ...emojiConfig.generator.training, warmupSteps: 10, totalSteps: 60 },
    batch: 8,
    steps: 60,
    evaluateEvery: 30,
    sampleEvery: 60,
  },
  answers: {
    ...emojiConfig.answers,
    training: { ...emojiConfig.answers.training, warmupSteps: 5, totalSteps: 30 },
    batch: 4,
    questionBatch: 8,
    steps: 30,
    evaluateEvery: 30,
  },
  matcher: {
    ...emojiConfig.matcher,
    model: {
      ...emojiConfig.matcher.model,
      layers: 2,
      hidden: 64,
      heads: 1,
      grid: 8,
      imageVocab: 128,
      dim: 32,
    },
    training: { ...emojiConfig.matcher.training, warmupSteps: 5, totalSteps: 60 },
    batch: 16,
    steps: 60,
    evaluateEvery: 30,
  },
  sampling: emojiConfig.sampling,
}
