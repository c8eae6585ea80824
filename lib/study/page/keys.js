/**
 * What a key does.
 *
 * @typedef {{ kind: 'help' } | { kind: 'move', steps: number } | { kind: 'answer', digit: number }} Action
 */

/**
 * Where a key was pressed.
 *
 * @typedef {object} Place
 * @property {boolean} hasBegun whether the start screen is behind the rater
 * @property {boolean} isUnit whether a unit is on the screen
 * @property {boolean} isAnswered whether all of its questions are answered
 * @property {boolean} isTyping whether the focus is where texts are written
 * @property {boolean} isPressing whether the focus is on a button, which Enter presses
 */

/**
 * The action of a key; undefined where it is the browser's.
 *
 * @param {Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey'>} event
 * @param {Place} place
 * @returns {Action | undefined}
 */
export function actionOf({ key, ctrlKey, metaKey, altKey }, place) {
  if (ctrlKey || metaKey || altKey || place.isTyping) return undefined
  if (key === '?') return { kind: 'help' }
  if (!place.hasBegun) return undefined
  if (key === 'ArrowLeft') return { kind: 'move', steps: -1 }
  if (key === 'ArrowRight') return { kind: 'move', steps: 1 }
  if (!place.isUnit) return undefined
  if (key === 'Enter') return place.isAnswered && !place.isPressing ? { kind: 'move', steps: 1 } : undefined
  return /^[0-9]$/.test(key) ? { kind: 'answer', digit: Number(key) } : undefined
}
