/** @typedef {import('../page-study.ts').PageStudy} PageStudy */
/** @typedef {import('../page-study.ts').StudyResults} StudyResults */

/**
 * Keeps answers in the browser between visits. Browsers may refuse that, for files or in private windows: then `works` is false, and
 * raters save files.
 */
export class Store {
  /** @param {() => Storage} open gives the browser's storage, or throws */
  constructor(open) {
    this.works = false
    try {
      this.storage = open()
      this.storage.setItem('ernie-vilg study', 'works')
      this.storage.removeItem('ernie-vilg study')
      this.works = true
    } catch {
      this.storage = undefined
    }
  }

  /**
   * @param {PageStudy} study
   * @param {string} rater
   * @returns {string | undefined} the text of a results file
   */
  load(study, rater) {
    return this.storage?.getItem(storageKey(study.study, rater)) ?? undefined
  }

  /** @param {StudyResults} results */
  save(results) {
    try {
      this.storage?.setItem(storageKey(results.study, results.rater), JSON.stringify(results))
    } catch {
      this.works = false // full, or taken away meanwhile
    }
  }
}

/**
 * @param {string} study
 * @param {string} rater
 */
function storageKey(study, rater) {
  return `ernie-vilg study ${study} ${rater}`
}
