import { element } from './dom.js'
import { answersTo, digitOf } from './session.js'

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../page-study.ts').PageUnit} PageUnit */
/** @typedef {import('../page-study.ts').PageResponse} PageResponse */
/** @typedef {import('../protocols.ts').Criterion} Criterion */

/**
 * One unit with its questions.
 *
 * @param {App} app
 * @param {PageUnit} unit
 */
export function unitScreen(app, unit) {
  const { say, place, session } = app
  const last = place === session.units.length - 1
  return element(
    'div',
    { class: 'unit' },
    element(
      'section',
      { class: 'shown', 'aria-labelledby': 'heading' },
      element('h2', { id: 'heading', tabindex: -1 }, say.place(place + 1, session.units.length)),
      ...shownParts(app, unit),
    ),
    element(
      'form',
      { class: 'questions', submit: (event) => event.preventDefault() },
      ...app.study.criteria.map((criterion) => questionSet(app, unit, criterion)),
    ),
    element(
      'nav',
      { class: 'steps' },
      element(
        'button',
        {
          type: 'button',
          id: 'previous',
          disabled: place === 0,
          'aria-keyshortcuts': 'ArrowLeft',
          click: () => app.move(-1),
        },
        `← ${say.previous}`,
      ),
      element(
        'button',
        {
          type: 'button',
          id: 'next',
          class: 'primary',
          'aria-keyshortcuts': 'ArrowRight',
          click: () => app.move(1),
        },
        `${last ? say.finish : say.next} →`,
      ),
    ),
  )
}

/**
 * What is given and what is judged.
 *
 * @param {App} app
 * @param {PageUnit} unit
 */
function shownParts(app, unit) {
  const { say } = app
  const parts = []
  if (unit.text !== undefined) parts.push(textCard(say.text, unit.text))
  if (unit.image !== undefined) parts.push(pictureOf(app, unit.image, say.picture, false))
  if (unit.question !== undefined) parts.push(textCard(say.question, unit.question))
  const responses = app.session.responsesOf(unit)
  const isPair = responses.length === 2
  const judged = responses.map(({ text, image }, i) => {
    if (text !== undefined) return textCard(unit.question === undefined ? say.description : say.answer, text)
    const label = isPair ? (i === 0 ? say.left : say.right) : say.picture
    return pictureOf(app, image ?? '', label, isPair)
  })
  return [...parts, isPair ? element('div', { class: 'pair' }, ...judged) : judged[0]]
}

/**
 * @param {string} label
 * @param {string} text
 */
function textCard(label, text) {
  return element('div', { class: 'text' }, element('span', { class: 'dim' }, label), element('p', {}, text))
}

/**
 * A picture, which a click enlarges.
 *
 * @param {App} app
 * @param {string} id
 * @param {string} label
 * @param {boolean} isLabelled whether the label shows
 */
function pictureOf(app, id, label, isLabelled) {
  const src = app.study.pictures[id]
  const open = () => app.openDialog(label, element('img', { src, alt: label }))
  return element(
    'figure',
    {},
    isLabelled ? element('figcaption', {}, label) : undefined,
    element(
      'button',
      { type: 'button', class: 'picture', click: open, 'aria-label': `${label}: ${app.say.enlarge}` },
      element('img', { src, alt: label }),
    ),
  )
}

/**
 * @param {App} app
 * @param {PageUnit} unit
 * @param {Criterion} criterion
 */
function questionSet(app, unit, criterion) {
  const { language, session } = app
  const responses = session.responsesOf(unit)
  const given = session.valueOf(unit, criterion)
  const options = answersTo(criterion, responses).map((value, place) => {
    const digit = digitOf(criterion, place)
    const radio = element('input', {
      type: 'radio',
      name: criterion.id,
      value,
      checked: value === given,
      change: () => app.answer(unit, criterion, place),
      'aria-keyshortcuts': digit,
    })
    return element('label', { class: 'option' }, radio, ...optionText(app, criterion, value, place, digit))
  })
  const set = element(
    'fieldset',
    { id: `criterion-${criterion.id}`, class: criterion.kind },
    element('legend', {}, criterion.label[language]),
    element('p', { class: 'dim' }, criterion.question[language]),
    element('div', { class: 'options' }, ...options),
  )
  // Whoever clicks into a question or tabs there means that one by the digits.
  set.addEventListener('focusin', () => app.markCriterion(criterion))
  return set
}

/**
 * @param {App} app
 * @param {Criterion} criterion
 * @param {number | string} value
 * @param {number} place
 * @param {number} digit
 */
function optionText({ say, language }, criterion, value, place, digit) {
  if (criterion.kind !== 'rating') {
    return [
      element('span', { class: 'big' }, answerName(say, criterion, value, place)),
      element('kbd', {}, String(digit)),
    ]
  }
  const end = value === criterion.min ? criterion.low : value === criterion.max ? criterion.high : undefined
  return [
    element('span', { class: 'big' }, String(value)),
    element('small', {}, end === undefined ? '\u00a0' : end[language]),
  ]
}

/**
 * What an answer is called.
 *
 * @param {App['say']} say
 * @param {Criterion} criterion
 * @param {number | string} value
 * @param {number} place
 */
export function answerName(say, criterion, value, place) {
  if (criterion.kind === 'rating') return String(value)
  if (criterion.kind === 'verdict') return value === 'human' ? say.human : say.machine
  return place === 0 ? say.left : say.right
}
