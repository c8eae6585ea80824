import { element, saveFile } from './dom.js'
import { finishScreen } from './finish-screen.js'
import { actionOf } from './keys.js'
import { messages } from './messages.js'
import { answersTo, digitOf, readEarlierResults, Session } from './session.js'
import { startScreen } from './start-screen.js'
import { Store } from './store.js'
import { answerName, unitScreen } from './unit-screen.js'

/** @typedef {import('../page-study.ts').PageStudy} PageStudy */
/** @typedef {import('../page-study.ts').PageUnit} PageUnit */
/** @typedef {import('../page-study.ts').StudyResults} StudyResults */
/** @typedef {import('../protocols.ts').Criterion} Criterion */
/** @typedef {import('../protocols.ts').StudyLanguage} StudyLanguage */

/** The page: which screen there is, and what keys do. */
export class App {
  /**
   * @param {PageStudy} study
   * @param {HTMLElement} root what the page is drawn into
   * @param {Store} store
   */
  constructor(study, root, store) {
    this.study = study
    this.root = root
    this.store = store
    /** @type {StudyLanguage} */
    this.language = study.language
    /** The screen of a unit by its place; that after the last is the end. */
    this.place = 0
    this.typedName = ''
    /** @type {Session | undefined} */
    this.begun = undefined
    /** The criterion that digits answer. */
    this.marked = 0
    this.shownSince = performance.now()
    this.isSaved = true
    this.status = element('p', { id: 'status', role: 'status', 'aria-live': 'polite' })
    this.dialog = element('dialog', { id: 'dialog' })
    document.addEventListener('keydown', (event) => this.onKey(event))
    document.addEventListener('visibilitychange', () => this.countTime(document.hidden))
    addEventListener('beforeunload', (event) => {
      if (!this.isSaved && !this.store.works) event.preventDefault()
    })
    this.render()
  }

  get say() {
    return messages[this.language]
  }

  /** The rater's session; screens that need it show only after it began. */
  get session() {
    if (this.begun === undefined) throw new Error('the study has not begun')
    return this.begun
  }

  /**
   * @param {string} rater
   * @param {StudyResults} [earlier] from a file; otherwise what the browser kept
   */
  begin(rater, earlier) {
    const kept = earlier === undefined ? this.store.load(this.study, rater) : undefined
    const read = kept === undefined ? undefined : readEarlierResults(this.study, kept)
    const results = earlier ?? (read !== undefined && 'results' in read ? read.results : undefined)
    this.begun = new Session(this.study, rater, results)
    this.shownSince = performance.now()
    if (earlier !== undefined) this.store.save(this.begun.results())
    this.moveTo(this.begun.firstMissing)
    if (results !== undefined) this.announce(this.say.goneOn)
  }

  /** @param {number} steps */
  move(steps) {
    this.moveTo(this.place + steps)
  }

  /** @param {number} place */
  moveTo(place) {
    if (place < 0 || place > this.session.units.length) return
    this.countTime(true)
    this.place = place
    const unit = this.session.units[place]
    const open =
      unit === undefined
        ? 0
        : this.study.criteria.findIndex((one) => this.session.valueOf(unit, one) === undefined)
    this.marked = Math.max(0, open)
    this.announce('')
    this.render()
    this.shownSince = performance.now()
  }

  /**
   * Adds the time since the unit came on the screen, and begins anew.
   *
   * @param {boolean} wasShown false where the page was hidden until now
   */
  countTime(wasShown) {
    const unit = this.begun?.units[this.place]
    const now = performance.now()
    if (unit !== undefined && wasShown) {
      this.session.addSeconds(unit, (now - this.shownSince) / 1000)
      this.store.save(this.session.results())
    }
    this.shownSince = now
  }

  /**
   * @param {PageUnit} unit
   * @param {Criterion} criterion
   * @param {number} place of the answer among those of the criterion
   */
  answer(unit, criterion, place) {
    const value = answersTo(criterion, this.session.responsesOf(unit))[place]
    if (value === undefined) return
    this.session.answer(unit, criterion, value)
    this.isSaved = false
    this.store.save(this.session.results())
    this.announce(
      this.say.given(criterion.label[this.language], answerName(this.say, criterion, value, place)),
    )
    this.showProgress()
  }

  /** @param {Criterion} criterion */
  markCriterion(criterion) {
    this.marked = this.study.criteria.indexOf(criterion)
    this.showMark()
  }

  saveResults() {
    this.countTime(true)
    // what file systems forbid in names, and spaces
    const rater = this.session.rater.replace(/[^\p{L}\p{N}._-]+/gu, '_')
    const name = `${this.study.study}-${rater}.json`
    saveFile(name, `${JSON.stringify(this.session.results(), undefined, 2)}\n`)
    this.isSaved = true
    this.announce(this.say.saved(name))
  }

  /** @param {string} text said by screen readers, and shown */
  announce(text) {
    this.status.textContent = text
  }

  /**
   * @param {string} title
   * @param {...Node} content
   */
  openDialog(title, ...content) {
    const close = element('button', { type: 'button', click: () => this.dialog.close() }, this.say.close)
    this.dialog.setAttribute('aria-label', title)
    this.dialog.replaceChildren(...content, close)
    this.dialog.showModal()
  }

  openHelp() {
    const keys = this.say.keys.map(([key, text]) =>
      element('div', {}, element('dt', {}, element('kbd', {}, key)), element('dd', {}, text)),
    )
    this.openDialog(this.say.help, element('h2', {}, this.say.help), element('dl', {}, ...keys))
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (this.dialog.open) return
    const target = /** @type {Element} */ (event.target)
    const unit = this.begun?.units[this.place]
    const action = actionOf(event, {
      hasBegun: this.begun !== undefined,
      isUnit: unit !== undefined,
      isAnswered: unit !== undefined && this.session.isAnswered(unit),
      isTyping: target.matches('textarea, input:not([type=radio])'),
      isPressing: target.matches('button'),
    })
    if (action === undefined) return
    // In a group of radio buttons, arrows would change the answer of whoever clicked one and then wants to go on.
    event.preventDefault()
    if (action.kind === 'help') this.openHelp()
    else if (action.kind === 'move') this.move(action.steps)
    else if (unit !== undefined) this.answerByDigit(unit, action.digit)
  }

  /**
   * @param {PageUnit} unit
   * @param {number} digit
   */
  answerByDigit(unit, digit) {
    const criterion = this.study.criteria[this.marked]
    if (criterion === undefined) return
    const places = answersTo(criterion, this.session.responsesOf(unit)).map((_, place) =>
      digitOf(criterion, place),
    )
    const place = places.indexOf(digit)
    if (place < 0) return
    const radios = this.root.querySelectorAll(`#criterion-${criterion.id} input`)
    const radio = /** @type {HTMLInputElement | undefined} */ (radios[place])
    if (radio !== undefined) radio.checked = true
    this.answer(unit, criterion, place)
    this.marked = Math.min(this.marked + 1, this.study.criteria.length - 1)
    this.showMark()
    this.root.querySelector('fieldset[aria-current]')?.scrollIntoView({ block: 'nearest' })
  }

  showMark() {
    for (const [i, criterion] of this.study.criteria.entries()) {
      const set = this.root.querySelector(`#criterion-${criterion.id}`)
      if (i === this.marked) set?.setAttribute('aria-current', 'true')
      else set?.removeAttribute('aria-current')
    }
  }

  showProgress() {
    const bar = this.root.querySelector('progress')
    const text = this.root.querySelector('#progress-text')
    if (bar === null || text === null) return
    const { numAnswered, units } = this.session
    bar.value = numAnswered
    text.textContent = this.say.progress(numAnswered, units.length)
  }

  render() {
    const unit = this.begun?.units[this.place]
    const screen =
      this.begun === undefined
        ? startScreen(this)
        : unit === undefined
          ? finishScreen(this)
          : unitScreen(this, unit)
    document.documentElement.lang = this.language === 'zh' ? 'zh-CN' : 'en'
    document.title = this.study.title
    this.root.replaceChildren(this.header(), element('main', {}, screen), this.status, this.dialog)
    this.showMark()
    if (this.begun !== undefined) {
      this.showProgress()
      // Readers of screens begin with the heading, and keys reach the page.
      document.getElementById('heading')?.focus()
    }
  }

  header() {
    const { say, begun } = this
    const switchLanguage = () => {
      this.language = this.language === 'en' ? 'zh' : 'en'
      this.render()
    }
    const otherCode = this.language === 'en' ? 'zh-CN' : 'en'
    return element(
      'header',
      {},
      begun === undefined ? element('span') : this.progressBar(begun.units.length),
      element(
        'div',
        { class: 'tools' },
        begun === undefined
          ? undefined
          : element('button', { type: 'button', id: 'save', click: () => this.saveResults() }, say.save),
        element(
          'button',
          { type: 'button', id: 'language', lang: otherCode, click: switchLanguage },
          say.otherLanguage,
        ),
        element(
          'button',
          { type: 'button', id: 'help', 'aria-label': say.help, click: () => this.openHelp() },
          '?',
        ),
      ),
    )
  }

  /** @param {number} count */
  progressBar(count) {
    return element(
      'div',
      { class: 'progress' },
      element('progress', { max: count, value: 0, 'aria-labelledby': 'progress-text' }),
      element('span', { id: 'progress-text', class: 'dim' }),
    )
  }
}
