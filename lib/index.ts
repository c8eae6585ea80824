export {
  backendInfo,
  type BackendInfo,
  type CudaDevice,
  type CudaInfo,
  memoryUse,
  type MemoryUse,
  type MemoryUseOptions,
  setIsa,
  setThreads,
} from './backend-info.ts'
export { type Ceilings, type CeilingsOptions, type MeasuredCeilings, measureCeilings } from './ceilings.ts'
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
  type CopyOptions,
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
export { openCheckpoint, type OpenCheckpointOptions } from './checkpoint/open-checkpoint.ts'
export {
  SafetensorsFile,
  type TensorInfo,
  type TensorToWrite,
  writeSafetensors,
} from './checkpoint/safetensors.ts'
export { TENSOR_DTYPES, type TensorArray, type TensorDtype } from './checkpoint/tensor-dtypes.ts'
export type { Json } from './checkpoint/stored-tensor.ts'
export {
  type StreamedTensor,
  streamedTensor,
  streamSafetensors,
  type StreamSafetensorsOptions,
} from './checkpoint/stream-safetensors.ts'
export {
  CHECKPOINT_KINDS,
  type CheckpointKind,
  type ReadTensorOptions,
  type StreamTensorOptions,
  type TensorDescription,
  type TensorSource,
} from './checkpoint/tensor-source.ts'
export {
  CONVERSION_KINDS,
  type ConversionKind,
  type ConversionReport,
  convertCheckpoint,
  type ConvertOptions,
} from './convert/convert-checkpoint.ts'
export { contactSheet, type ContactSheet, type ContactSheetOptions } from './data/contact-sheet.ts'
export {
  encodePng,
  type ImageFit,
  type ImageInput,
  pixelsToTensor,
  readImage,
  type ReadImageOptions,
  type RgbImage,
  tensorToPixels,
  writePng,
} from './data/image.ts'
export {
  type CodeIndex,
  type CodeModel,
  type CodeShard,
  type SourcePosition,
} from './data/codes/code-index.ts'
export { modelFingerprint } from './model/fingerprint.ts'
export { type CodeSource, openCodeSource } from './data/codes/code-source.ts'
export { codeReport, tokenizeSource, type TokenizeSourceOptions } from './data/codes/tokenize-source.ts'
export { characterRule, nounRule, wordCountRule } from './data/filters/caption-rules.ts'
export { differenceHash, hashDistance } from './data/filters/difference-hash.ts'
export { type DuplicateKind, duplicateRule, nearDuplicateRule } from './data/filters/duplicate-rules.ts'
export { FilterChain } from './data/filters/filter-chain.ts'
export { type FilterReport, filterTable } from './data/filters/filter-report.ts'
export type {
  CaptionRule,
  FilterPair,
  FilterRule,
  FilterSample,
  PairRule,
  RuleCounts,
} from './data/filters/rule.ts'
export { imageTextMatcher, type ImageTextMatcherOptions } from './data/filters/image-text-matcher.ts'
export { makeRules, RULE_NAMES, type RuleName } from './data/filters/rules.ts'
export { type ImageTextMatcher, similarityRule } from './data/filters/similarity-rule.ts'
export { jiebaSegmenter, type Segmenter, type TaggedWord } from './data/filters/words.ts'
export {
  openSource,
  type OpenSourceOptions,
  SOURCE_FORMATS,
  type SourceFormat,
} from './data/sources/open-source.ts'
export type {
  BrokenReport,
  BrokenSample,
  CodeSample,
  ImageSample,
  Sample,
  SampleSource,
  SourceKind,
} from './data/sources/sample.ts'
export type { StreamPart } from './data/stream/held-out.ts'
export type { WeightedSource } from './data/stream/mixer.ts'
export { samplesInOrder } from './data/stream/in-order.ts'
export type {
  BrokenPolicy,
  SampleStream,
  Streamed,
  StreamOptions,
  StreamState,
} from './data/stream/sample-stream.ts'
export {
  type CodeStream,
  type PairStream,
  type PairStreamOptions,
  streamCodes,
  streamPairs,
} from './data/stream/streams.ts'
export {
  folderPairs,
  type FolderPairsOptions,
  type FolderPairsReport,
  type ImageTextPair,
  memoryPairs,
  type PairSource,
  shufflePairs,
  type ShuffleOptions,
  splitPairs,
} from './data/pairs.ts'
export {
  evaluatePairs,
  evaluationTable,
  type EvaluationOptions,
  type EvaluationProgress,
  type PairsEvaluation,
} from './metrics/evaluation.ts'
export { type BundleInfo, type Task, TASKS } from './model/bundle-file.ts'
export { type BundleParts, ErnieVilg } from './model/ernie-vilg.ts'
export { type DirectionOptions, type ForwardResult, Generator } from './model/generator.ts'
export { assembleBundle } from './model/assemble-bundle.ts'
export {
  type Attention,
  ATTENTIONS,
  type GeneratorConfig,
  type GeneratorVariant,
  type ImageStart,
  IMAGE_STARTS,
  type Padding,
  PADDINGS,
} from './model/generator-config.ts'
export {
  type CountOptions,
  ImageTokenizer,
  type ImageTokenizerGradientsOptions,
  type ImageTokenizerLosses,
} from './model/image-tokenizer.ts'
export {
  type ImageTokenizerConfig,
  type Quantizer,
  QUANTIZERS,
  type VqganConfig,
} from './model/image-tokenizer-config.ts'
export type { DvaeConfig } from './model/dvae-config.ts'
export type { Calibration } from './model/calibration.ts'
export { type Comparison, Matcher } from './model/matcher.ts'
export type { MatcherConfig } from './model/matcher-config.ts'
export type { CallSignal, CreateOptions, LoadOptions, LoadProgressEvent, SaveOptions } from './model/model.ts'
export { preset, type PresetConfig, type PresetName, PRESETS } from './model/presets.ts'
export type { TextBatch, TokenBatch } from './model/token-batch.ts'
export type { ImageEvent, ProgressEvent } from './sampler/events.ts'
export { GeneratedImage, type GeneratedText } from './sampler/generated-image.ts'
export {
  type DrawOptions,
  type AnswerOptions,
  type ImageToTextOptions,
  type RerankerName,
  RERANKERS,
  type SamplingDefaults,
  type StreamImageOptions,
  type TextToImageOptions,
  type WorkOptions,
} from './sampler/options.ts'
export {
  likelihoodReranker,
  matcherReranker,
  type MatcherRerankerOptions,
  type Reranker,
} from './sampler/reranker.ts'
export { Sampler } from './sampler/sampler.ts'
export {
  TextTokenizer,
  type EncodedText,
  type TextEncodeOptions,
  type VocabularyOptions,
} from './tokenizer/text-tokenizer.ts'
export { encodeTexts } from './tokenizer/encode-texts.ts'
export { trainWordPiece, type TrainWordPieceOptions } from './tokenizer/train-word-piece.ts'
export {
  COMPUTE_PRECISIONS,
  type ComputePrecision,
  DEFAULT_TRAINER_OPTIONS,
  type DirectionWeights,
  type TrainerOptions,
} from './trainer/options.ts'
export type {
  CodebookAveragesOptions,
  CodebookRateOptions,
  DiscriminatorOptions,
  DvaeTrainerOptions,
  PerceptualOptions,
  TokenizerLossWeights,
  VqganTrainerOptions,
} from './trainer/image-tokenizer-options.ts'
export { type Schedule, SCHEDULES } from './trainer/schedule.ts'
export { type ResumeOptions, Trainer, type TrainerClass, type TrainerTarget } from './trainer/trainer.ts'
export type { GeneratorBatch, GeneratorEvaluation } from './trainer/generator-learner.ts'
export type { PairBatch } from './trainer/pair-batch.ts'
export { type QuestionAnswer, type QuestionTokens, questionTokens } from './trainer/question-tokens.ts'
export type { ParameterGroup } from './trainer/parameter-groups.ts'
export type { MatcherEvaluation } from './trainer/matcher-learner.ts'
export type { Annealed, Annealing } from './trainer/annealing.ts'
export type { ImageTokenizerBatch, ImageTokenizerEvaluation } from './trainer/picture-learner.ts'
export type {
  DvaeStep,
  FitOptions,
  GeneratorStep,
  ImageTokenizerStep,
  MatcherStep,
  TrainerStep,
} from './trainer/training-loop.ts'
export { interruptible, InterruptedError } from './trainer/interrupt.ts'
export { type RunBatches, type RunOptions, type RunResult, type RunSamples, trainRun } from './trainer/run.ts'
export { streamImageBatches, streamTokenBatches } from './trainer/bundle/stream-batches.ts'
export type { CaptionOptions } from './trainer/bundle/training-data.ts'
