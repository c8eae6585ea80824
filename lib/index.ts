export { backendInfo, type BackendInfo, setIsa, setThreads } from './backend-info.ts'
export { type Ceilings, type CeilingsOptions, measureCeilings } from './ceilings.ts'
export {
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetails,
  VilgError,
  VilgRangeError,
  VilgTypeError,
} from './errors.ts'
export {
  type CodebookLookupOptions,
  type Direction,
  DIRECTIONS,
  type KernelOptions,
  kernels,
  type MatmulOptions,
  type Pattern,
  PATTERNS,
  type SparseAttentionOptions,
  type StreamSizes,
} from './kernels.ts'
export type { Device, Precision } from './native/options.ts'
export {
  SafetensorsFile,
  TENSOR_DTYPES,
  type TensorArray,
  type TensorDtype,
  type TensorInfo,
  type TensorToWrite,
  writeSafetensors,
} from './checkpoint/safetensors.ts'
export { type BundleInfo, type Task, TASKS } from './model/bundle-file.ts'
export { type BundleParts, ErnieVilg } from './model/ernie-vilg.ts'
export { type DirectionOptions, type ForwardResult, Generator } from './model/generator.ts'
export { type Attention, ATTENTIONS, type GeneratorConfig } from './model/generator-config.ts'
export {
  type CountOptions,
  ImageTokenizer,
  type ImageTokenizerGradientsOptions,
  type ImageTokenizerLosses,
} from './model/image-tokenizer.ts'
export { type ImageTokenizerConfig, type Quantizer, QUANTIZERS } from './model/image-tokenizer-config.ts'
export type { CallSignal, CreateOptions, LoadOptions, LoadProgressEvent, SaveOptions } from './model/model.ts'
export { preset, type PresetConfig, type PresetName, PRESETS } from './model/presets.ts'
export type { TokenBatch } from './model/token-batch.ts'
export {
  TextTokenizer,
  type EncodedText,
  type TextEncodeOptions,
  type VocabularyOptions,
} from './tokenizer/text-tokenizer.ts'
