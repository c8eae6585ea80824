import type { Criterion, StudyLanguage } from './protocols.ts'

/**
 * All that the page of a study knows. Whoever opens the page's source sees it, so it names no system, and its ids and order say nothing
 * of them.
 */
export interface PageStudy {
  /** Tells the study from all others; results bear it. */
  study: string
  title: string
  /** Shown before the first unit; empty: those of the page. */
  instructions: string
  /** That the page begins in. */
  language: StudyLanguage
  /** With a rater's name, decides in which order the rater sees units, and the two sides of pairs. */
  order: string
  criteria: readonly Criterion[]
  units: readonly PageUnit[]
  /** `data:` URIs of PNG files. */
  pictures: Readonly<Record<string, string>>
}

/** What a rater judges at a time. */
export interface PageUnit {
  id: string
  text?: string
  question?: string
  /** A key of {@link PageStudy.pictures}. */
  image?: string
  /** One, or the two of a pair. */
  responses: readonly PageResponse[]
}

/** What one system gave. */
export interface PageResponse {
  /** `a` or `b`, at random: the place in the unit's list in the key file. */
  id: ResponseId
  text?: string
  /** A key of {@link PageStudy.pictures}. */
  image?: string
}

/** Which response of a unit. */
export type ResponseId = 'a' | 'b'

/** The first line of what a results file is. */
export const RESULTS_FORMAT = 'ernie-vilg study results'

/** What one rater said: the file that the page saves. */
export interface StudyResults {
  format: typeof RESULTS_FORMAT
  version: 1
  /** {@link PageStudy.study}. */
  study: string
  rater: string
  /** Whether nothing is missing. */
  complete: boolean
  /** By the id of the unit; units without any answer are left out. */
  answers: Record<string, UnitAnswers>
}

/** What one rater said of one unit. */
export interface UnitAnswers {
  /** By the id of the criterion: a rating, a verdict or a {@link ResponseId}; what is not answered is left out. */
  values: Record<string, number | string>
  /** How long the unit was on the screen. */
  seconds: number
  /** Of pairs: the response on the left. */
  first?: ResponseId
}
