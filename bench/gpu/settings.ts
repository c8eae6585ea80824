import type { StreamSizes } from '../../lib/kernels.ts'
import type { GeneratorConfig } from '../../lib/model/generator-config.ts'
import type { VqganConfig } from '../../lib/model/image-tokenizer-config.ts'
import { PRESETS } from '../../lib/model/presets.ts'

/** What is measured, how large, and how often. The peers get it as JSON. */
export interface Settings {
  ceilings: { copyBytes: number; matmulSide: number }
  attention: StreamSizes & { heads: number; headSize: number; batches: number[] }
  decode: {
    model: string
    config: Required<GeneratorConfig>
    candidates: number[]
    warmUp: number
    tokens: number
  }
  train: { model: string; config: Required<GeneratorConfig>; pairs: number; learningRate: number }
  vqgan: { model: string; config: Required<VqganConfig>; images: number[] }
  codebook: { rows: number; size: number; dim: number }
  samples: {
    /** Of kernels that take microseconds; each is the mean of many runs. */
    kernel: number
    /** Of what takes a millisecond or more, each the mean of many runs. */
    longKernel: number
    /** Of calls of a model. */
    call: number
  }
}

const full: Settings = {
  ceilings: { copyBytes: 8e9, matmulSide: 8192 },
  attention: { heads: 64, headSize: 64, textLength: 127, grid: 32, kernel: 11, batches: [1, 16] },
  decode: {
    model: 'ernie-vilg-10b',
    config: PRESETS['ernie-vilg-10b'],
    candidates: [1, 60],
    warmUp: 64,
    tokens: 64,
  },
  train: { model: 'ernie-vilg-300m', config: PRESETS['ernie-vilg-300m'], pairs: 16, learningRate: 1e-4 },
  vqgan: {
    model: 'vqgan-f8-8192',
    config: PRESETS['vqgan-f8-8192'] as Required<VqganConfig>,
    images: [1, 60],
  },
  codebook: { rows: 64 * 1024, size: 8192, dim: 256 },
  samples: { kernel: 300, longKernel: 12, call: 8 },
}

const tinyStream = { textLength: 7, grid: 4, kernel: 3 }
const tinyGenerator: Required<GeneratorConfig> = {
  ...PRESETS['ernie-vilg-300m'],
  ...tinyStream,
  layers: 4,
  hidden: 128,
  heads: 2,
  textVocab: 50,
  imageVocab: 64,
}
const tiny: Settings = {
  ceilings: { copyBytes: 1e6, matmulSide: 64 },
  attention: { heads: 1, headSize: 64, ...tinyStream, batches: [1, 2] },
  decode: { model: 'a tiny generator', config: tinyGenerator, candidates: [1, 3], warmUp: 4, tokens: 4 },
  train: { model: 'a tiny generator', config: tinyGenerator, pairs: 2, learningRate: 3e-3 },
  vqgan: {
    model: 'a tiny tokenizer',
    config: {
      ...full.vqgan.config,
      resolution: 16,
      channels: 32,
      multipliers: [1, 1],
      residualBlocks: 1,
      attentionResolutions: [8],
      latentChannels: 32,
      codebookSize: 32,
      codebookDim: 16,
    },
    images: [1, 2],
  },
  codebook: { rows: 70, size: 50, dim: 16 },
  samples: { kernel: 1, longKernel: 1, call: 1 },
}

/** Those of the issue; with `quick` few samples of each; `tiny` sizes are what an emulated device can do. */
export function makeSettings({ quick = false, tiny: small = false }): Settings {
  const settings = structuredClone(small ? tiny : full) // nobody changes the tables above
  if (quick && !small) settings.samples = { kernel: 30, longKernel: 3, call: 2 }
  return settings
}
