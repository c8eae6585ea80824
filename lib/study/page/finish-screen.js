import { element } from './dom.js'

/** @typedef {import('./app.js').App} App */

/**
 * Hands the results over, and says what is missing.
 *
 * @param {App} app
 */
export function finishScreen(app) {
  const { say, session } = app
  const missing = session.units.length - session.numAnswered
  const copy = element('button', { type: 'button', id: 'copy' }, say.copy)
  const byHand = element('div')
  copy.addEventListener('click', async () => {
    const text = JSON.stringify(session.results())
    try {
      await navigator.clipboard.writeText(text)
      app.announce(say.copied)
    } catch {
      // no clipboard for pages of files in some browsers
      const area = element('textarea', { id: 'results', readonly: true, rows: 6 })
      area.value = text
      byHand.replaceChildren(element('label', { for: 'results' }, say.copyByHand), area)
      area.focus()
      area.select()
    }
  })
  return element(
    'section',
    { class: 'card finish' },
    element('h2', { id: 'heading', tabindex: -1 }, missing === 0 ? say.done : say.missing(missing)),
    element('p', {}, say.doneHint),
    element(
      'div',
      { class: 'actions' },
      missing === 0
        ? undefined
        : element(
            'button',
            {
              type: 'button',
              id: 'to-missing',
              class: 'primary',
              click: () => app.moveTo(session.firstMissing),
            },
            say.toMissing,
          ),
      element(
        'button',
        {
          type: 'button',
          id: 'save-end',
          class: missing === 0 ? 'primary' : '',
          click: () => app.saveResults(),
        },
        say.save,
      ),
      copy,
      element('button', { type: 'button', click: () => app.move(-1) }, `← ${say.back}`),
    ),
    byHand,
  )
}
