// The entry point `ernie-vilg/metrics`.
export { bleu, type BleuScores } from './captions/bleu.ts'
export { cider, ciderD, documentFrequencies, type DocumentFrequencies } from './captions/cider.ts'
export {
  CAPTION_METRICS,
  type CaptionItem,
  type CaptionMetric,
  type CaptionScores,
  evaluateCaptions,
  type EvaluateCaptionsOptions,
} from './captions/evaluate-captions.ts'
export { meteor, type MeteorOptions } from './captions/meteor.ts'
export { rougeL } from './captions/rouge-l.ts'
export {
  CAPTION_TOKENS,
  type CaptionTokens,
  characterTokens,
  type TokenizedCaption,
  wordTokens,
} from './captions/tokens.ts'
export { clipScore } from './matching/clip-score.ts'
export { cosine, type Embedding } from './matching/cosine.ts'
export {
  type DrawnPicture,
  rPrecision,
  type RPrecision,
  rPrecisionHard,
  type RPrecisionHard,
  type RPrecisionHardOptions,
  type RPrecisionOptions,
} from './matching/r-precision.ts'
export { cosineScorer, type CosineScorerOptions, type ImageTextScorer } from './matching/scorer.ts'
export { wordSwaps } from './matching/word-swaps.ts'
export { readStatistics, writeStatistics } from './frechet/statistics-file.ts'
export type { FeatureExtractor } from './frechet/feature-extractor.ts'
export { FeatureStatistics } from './frechet/feature-statistics.ts'
export { frechetDistance } from './frechet/frechet-distance.ts'
export type { Gaussian } from './frechet/gaussian.ts'
export { folderImages, imageStatistics, type ImageStatisticsOptions } from './frechet/image-statistics.ts'
export {
  type Inception,
  type InceptionOptions,
  loadInception,
  type OnnxRuntime,
  type OnnxSession,
  type OnnxTensor,
} from './frechet/inception.ts'
