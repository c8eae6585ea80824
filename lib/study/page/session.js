import { seededRandom, shuffled } from './seeded-random.js'

/** @typedef {import('../page-study.ts').PageStudy} PageStudy */
/** @typedef {import('../page-study.ts').PageUnit} PageUnit */
/** @typedef {import('../page-study.ts').PageResponse} PageResponse */
/** @typedef {import('../page-study.ts').StudyResults} StudyResults */
/** @typedef {import('../page-study.ts').UnitAnswers} UnitAnswers */
/** @typedef {import('../protocols.ts').Criterion} Criterion */

/** @type {typeof import('../protocols.ts').VERDICTS} */
const verdictsInOrder = ['human', 'machine']

/**
 * The answers to a criterion in the order in which they are shown; of choices, the first is the left picture.
 *
 * @param {Criterion} criterion
 * @param {readonly PageResponse[]} responses as they are shown
 * @returns {readonly (number | string)[]}
 */
export function answersTo(criterion, responses) {
  if (criterion.kind === 'choice') return responses.map(({ id }) => id)
  if (criterion.kind === 'verdict') return verdictsInOrder
  return Array.from({ length: criterion.max - criterion.min + 1 }, (_, i) => criterion.min + i)
}

/**
 * The digit key that gives an answer: ratings are their own, other answers are counted from 1.
 *
 * @param {Criterion} criterion
 * @param {number} place of the answer among {@link answersTo}
 */
export function digitOf(criterion, place) {
  return criterion.kind === 'rating' ? criterion.min + place : place + 1
}

/** One rater's way through a study: the order of units, and the answers so far. */
export class Session {
  /**
   * @param {PageStudy} study
   * @param {string} rater
   * @param {StudyResults} [earlier] results of the same study and rater, to go on with
   */
  constructor(study, rater, earlier) {
    this.study = study
    this.rater = rater
    /** The units as this rater sees them. */
    this.units = shuffled(study.units, seededRandom(`${study.order} units ${rater}`))
    /** @type {Map<string, UnitAnswers>} */
    this.answers = new Map(Object.entries(earlier?.answers ?? {}))
  }

  /**
   * The responses of a unit, from left to right.
   *
   * @param {PageUnit} unit
   */
  responsesOf(unit) {
    return shuffled(unit.responses, seededRandom(`${this.study.order} sides ${unit.id} ${this.rater}`))
  }

  /**
   * @param {PageUnit} unit
   * @param {Criterion} criterion
   * @returns {number | string | undefined}
   */
  valueOf(unit, criterion) {
    return this.answers.get(unit.id)?.values[criterion.id]
  }

  /**
   * @param {PageUnit} unit
   * @param {Criterion} criterion
   * @param {number | string} value
   */
  answer(unit, criterion, value) {
    const { values, seconds } = this.answers.get(unit.id) ?? { values: {}, seconds: 0 }
    const left = unit.responses.length === 2 ? this.responsesOf(unit)[0] : undefined
    this.answers.set(unit.id, {
      values: { ...values, [criterion.id]: value },
      seconds,
      ...(left === undefined ? {} : { first: left.id }),
    })
  }

  /**
   * Counts time on a unit; before its first answer there is nowhere to keep it.
   *
   * @param {PageUnit} unit
   * @param {number} seconds
   */
  addSeconds(unit, seconds) {
    const answers = this.answers.get(unit.id)
    if (answers !== undefined) answers.seconds = Math.round((answers.seconds + seconds) * 10) / 10
  }

  /** @param {PageUnit} unit */
  isAnswered(unit) {
    return this.study.criteria.every((criterion) => this.valueOf(unit, criterion) !== undefined)
  }

  /** How many units are answered in full. */
  get numAnswered() {
    return this.units.filter((unit) => this.isAnswered(unit)).length
  }

  /** The place of the first unit that is not answered in full; that after the last where all are. */
  get firstMissing() {
    const place = this.units.findIndex((unit) => !this.isAnswered(unit))
    return place < 0 ? this.units.length : place
  }

  /** @returns {StudyResults} */
  results() {
    return {
      format: 'ernie-vilg study results',
      version: 1,
      study: this.study.study,
      rater: this.rater,
      complete: this.numAnswered === this.units.length,
      answers: Object.fromEntries(this.answers),
    }
  }
}

/**
 * Reads results that a rater wants to go on with. Answers that this study has no place for are no results of it.
 *
 * @param {PageStudy} study
 * @param {string} text of a results file
 * @returns {{ results: StudyResults } | { fault: 'notResults' | 'otherStudy' }}
 */
export function readEarlierResults(study, text) {
  /** @type {any} */
  let results
  try {
    results = JSON.parse(text)
  } catch {
    return { fault: 'notResults' }
  }
  const isResults =
    results?.format === 'ernie-vilg study results' &&
    results.version === 1 &&
    typeof results.rater === 'string' &&
    results.rater.trim() !== '' &&
    isObject(results.answers)
  if (!isResults) return { fault: 'notResults' }
  if (results.study !== study.study) return { fault: 'otherStudy' }
  const units = new Map(study.units.map((unit) => [unit.id, unit]))
  const fits = Object.entries(results.answers).every(([id, answers]) => {
    const unit = units.get(id)
    return unit !== undefined && fitsUnit(study, unit, answers)
  })
  return fits ? { results } : { fault: 'notResults' }
}

/**
 * @param {PageStudy} study
 * @param {PageUnit} unit
 * @param {any} answers
 */
function fitsUnit(study, unit, answers) {
  if (!isObject(answers) || !isObject(answers.values) || !(answers.seconds >= 0)) return false
  return Object.entries(answers.values).every(([id, value]) => {
    const criterion = study.criteria.find((one) => one.id === id)
    return criterion !== undefined && answersTo(criterion, unit.responses).includes(value)
  })
}

/** @param {unknown} value */
function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
