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
