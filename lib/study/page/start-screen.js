import { element } from './dom.js'
import { readEarlierResults } from './session.js'

/** @typedef {import('./app.js').App} App */

/**
 * Asks for the rater's name, or a file to go on from.
 *
 * @param {App} app
 */
export function startScreen(app) {
  const { study, say } = app
  const name = element('input', {
    id: 'rater',
    type: 'text',
    name: 'rater',
    autocomplete: 'off',
    maxlength: 100,
    required: true,
    'aria-describedby': 'rater-hint rater-fault',
  })
  name.value = app.typedName
  name.addEventListener('input', () => (app.typedName = name.value))
  const nameFault = element('p', { id: 'rater-fault', class: 'fault', role: 'alert' })
  const fileFault = element('p', { id: 'file-fault', class: 'fault', role: 'alert' })
  const file = element('input', {
    id: 'earlier',
    type: 'file',
    accept: '.json,application/json',
    'aria-describedby': 'file-fault',
  })
  file.addEventListener('change', async () => {
    const chosen = file.files?.[0]
    if (chosen === undefined) return
    const read = readEarlierResults(study, await chosen.text())
    if ('fault' in read) fileFault.textContent = say[read.fault]
    else app.begin(read.results.rater, read.results)
  })
  const begin = (/** @type {Event} */ event) => {
    event.preventDefault()
    // Names that differ in spaces or in how characters are composed are one name.
    const rater = name.value.normalize('NFC').replace(/\s+/g, ' ').trim()
    if (rater === '') {
      nameFault.textContent = say.nameMissing
      name.focus()
      return
    }
    app.begin(rater)
  }
  const instructions = study.instructions === '' ? say.instructions : study.instructions
  return element(
    'form',
    { class: 'card start', submit: begin, novalidate: true },
    element('h1', { id: 'heading', tabindex: -1 }, study.title),
    ...instructions.split('\n').map((line) => element('p', {}, line)),
    element('p', { class: 'dim' }, say.numUnits(study.units.length)),
    app.store.works ? undefined : element('p', { class: 'notice' }, say.noStorage),
    element('label', { for: 'rater' }, say.yourName),
    name,
    element('p', { id: 'rater-hint', class: 'dim' }, say.nameHint),
    nameFault,
    element('button', { type: 'submit', class: 'primary' }, say.start),
    element('label', { for: 'earlier', class: 'apart' }, say.goOn),
    file,
    fileFault,
  )
}
