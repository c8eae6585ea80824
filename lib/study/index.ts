// The entry point `ernie-vilg/study`.
export { type AgreementLevel, AGREEMENT_LEVELS, krippendorffAlpha } from './agreement.ts'
export { type AgreementOutcome, analyzeStudy, type StudyAnalysis } from './analyze-study.ts'
export { type CreatedStudy, createStudy } from './create-study.ts'
export { generateResponses, type GenerateResponsesOptions } from './generate-responses.ts'
export type { ChoiceOutcome, DifferenceOutcome, Outcomes, RatingOutcome, VerdictOutcome } from './outcomes.ts'
export type { ResponseId, StudyResults, UnitAnswers } from './page-study.ts'
export {
  type ChoiceCriterion,
  type Criterion,
  type Localized,
  PROMPT_ANGLES,
  type Protocol,
  PROTOCOL_NAMES,
  type ProtocolName,
  PROTOCOLS,
  type RatingCriterion,
  STUDY_LANGUAGES,
  type StudyLanguage,
  type VerdictCriterion,
} from './protocols.ts'
export type { RaterReport } from './rater-report.ts'
export { studyReport } from './report-html.ts'
export type { Estimate } from './statistics.ts'
export type { KeyUnit, StudyKey } from './study-files.ts'
export { readStudyItems } from './study-items.ts'
export type { CreateStudyOptions, StudyItem, StudyProgress } from './study-options.ts'
export { studyTable } from './study-table.ts'
