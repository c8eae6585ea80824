import { readFile } from 'node:fs/promises'
import test from 'ava'
import { actionOf } from '../../lib/study/page/keys.js'
import { messages } from '../../lib/study/page/messages.js'
import { answersTo, digitOf, readEarlierResults, Session } from '../../lib/study/page/session.js'
import { seededRandom, shuffled } from '../../lib/study/page/seeded-random.js'
import { Store } from '../../lib/study/page/store.js'
import { PROTOCOLS } from '../../lib/study/index.ts'
import { drawnItems, makeStudy } from './helpers.ts'

const systems = ['one', 'two']

/** A browser's storage in memory. */
function memoryStorage(): Storage {
  const values = new Map<string, string>()
  return {
    getItem: (key: string) => values.get(key) ?? null,
    setItem: (key: string, value: string) => void values.set(key, value),
    removeItem: (key: string) => void values.delete(key),
  } as Storage
}

const blocked = (): Storage => {
  throw new Error('access is denied')
}

test('orders are permutations, the same for the same rater, others for others', (t) => {
  const values = Array.from({ length: 50 }, (_, i) => i)
  const orderOf = (seed: string) => shuffled(values, seededRandom(seed))
  t.deepEqual(
    orderOf('anna').sort((a, b) => a - b),
    values,
  )
  t.deepEqual(orderOf('anna'), orderOf('anna'))
  t.notDeepEqual(orderOf('anna'), orderOf('anna '))
  // Each of five values comes first a fifth of the time: 2000 draws, five standard deviations are 90.
  const firsts = [0, 0, 0, 0, 0]
  for (let i = 0; i < 2000; i++) firsts[shuffled([0, 1, 2, 3, 4], seededRandom(`rater ${i}`))[0]!]! += 1
  for (const count of firsts) t.true(Math.abs(count - 400) < 90, firsts.join())
})

test('each rater sees all units, in an order of their own', async (t) => {
  const { study } = await makeStudy(t, { protocol: 'text-to-image', items: drawnItems(10, systems) })
  const order = (rater: string) => new Session(study, rater).units.map(({ id }) => id)
  t.deepEqual(order('anna').sort(), study.units.map(({ id }) => id).sort())
  t.deepEqual(order('anna'), order('anna'))
  t.notDeepEqual(order('anna'), order('ben'))
})

test('the sides of pairs are random by rater and unit, and stay', async (t) => {
  const { study } = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(20, systems) })
  const sides = (rater: string) => {
    const session = new Session(study, rater)
    return study.units.map((unit) => session.responsesOf(unit)[0]!.id).join('')
  }
  t.is(sides('anna'), sides('anna'))
  t.not(sides('anna'), sides('ben'))
  t.regex(sides('anna'), /ab|ba/)
})

test('results go on where they ended, and only those of the study are taken', async (t) => {
  const { study } = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(3, systems) })
  const session = new Session(study, 'anna')
  const [unit] = session.units
  session.answer(unit!, study.criteria[0]!, 'a')
  session.addSeconds(unit!, 2.26)
  t.is(session.firstMissing, 0)
  session.answer(unit!, study.criteria[1]!, 'b')
  t.is(session.firstMissing, 1)
  const results = session.results()
  t.deepEqual(results.answers, {
    [unit!.id]: {
      values: { fidelity: 'a', semantics: 'b' },
      seconds: 2.3,
      first: session.responsesOf(unit!)[0]!.id,
    },
  })
  t.false(results.complete)
  const read = readEarlierResults(study, JSON.stringify(results))
  t.deepEqual(read, { results })
  t.deepEqual(new Session(study, 'anna', results).results(), results)

  const changed = (changes: object) => JSON.stringify({ ...results, ...changes })
  const faults: [string, 'notResults' | 'otherStudy'][] = [
    ['', 'notResults'],
    ['null', 'notResults'],
    ['[]', 'notResults'],
    [changed({ format: 'x' }), 'notResults'],
    [changed({ version: 2 }), 'notResults'],
    [changed({ rater: ' ' }), 'notResults'],
    [changed({ answers: [] }), 'notResults'],
    [changed({ answers: { u99: { values: {}, seconds: 0 } } }), 'notResults'],
    [changed({ answers: { u1: { values: { beauty: 'a' }, seconds: 0 } } }), 'notResults'],
    [changed({ answers: { u1: { values: { fidelity: 'c' }, seconds: 0 } } }), 'notResults'],
    [changed({ answers: { u1: { values: { fidelity: 'a' } } } }), 'notResults'],
    [changed({ study: 'other' }), 'otherStudy'],
  ]
  for (const [text, fault] of faults) t.deepEqual(readEarlierResults(study, text), { fault }, text)
})

test('a browser without storage is no obstacle', (t) => {
  const store = new Store(blocked)
  t.false(store.works)
  const results = {
    format: 'ernie-vilg study results',
    version: 1,
    study: 's',
    rater: 'r',
    complete: true,
    answers: {},
  } as const
  t.notThrows(() => store.save(results))
  t.is(store.load({ study: 's' } as never, 'r'), undefined)
  // Storage that is full: what was kept stays, and the page says that it no longer keeps.
  const full = memoryStorage()
  const filled = new Store(() => full)
  t.true(filled.works)
  filled.save(results)
  full.setItem = () => {
    throw new Error('quota')
  }
  filled.save({ ...results, complete: true })
  t.false(filled.works)
  t.truthy(filled.load({ study: 's' } as never, 'r'))
})

test("keys answer, move and help where that is meant, and are the browser's elsewhere", (t) => {
  const unit = { hasBegun: true, isUnit: true, isAnswered: false, isTyping: false, isPressing: false }
  const plain = { ctrlKey: false, metaKey: false, altKey: false }
  const act = (key: string, changes: object = {}, modifiers: object = {}) =>
    actionOf({ key, ...plain, ...modifiers }, { ...unit, ...changes })
  t.deepEqual(act('3'), { kind: 'answer', digit: 3 })
  t.deepEqual(act('0'), { kind: 'answer', digit: 0 })
  t.deepEqual(act('ArrowLeft'), { kind: 'move', steps: -1 })
  t.deepEqual(act('ArrowRight'), { kind: 'move', steps: 1 })
  t.deepEqual(act('?'), { kind: 'help' })
  t.deepEqual(act('?', { hasBegun: false, isUnit: false }), { kind: 'help' })
  t.deepEqual(act('Enter', { isAnswered: true }), { kind: 'move', steps: 1 })
  t.is(act('Enter'), undefined, 'not before all is answered')
  t.is(act('Enter', { isAnswered: true, isPressing: true }), undefined, 'the button is pressed')
  for (const key of ['a', 'ArrowUp', 'ArrowDown', ' ', 'Tab', 'F5']) t.is(act(key), undefined, key)
  for (const key of ['1', '?', 'ArrowLeft', 'Enter']) {
    t.is(act(key, { isTyping: true }), undefined, key)
    for (const modifier of ['ctrlKey', 'metaKey', 'altKey'])
      t.is(act(key, {}, { [modifier]: true }), undefined, key)
  }
  for (const key of ['1', 'ArrowLeft', 'Enter'])
    t.is(act(key, { hasBegun: false, isUnit: false }), undefined, key)
  for (const key of ['1', 'Enter']) t.is(act(key, { isUnit: false }), undefined, 'the end has no questions')
  t.deepEqual(act('ArrowLeft', { isUnit: false }), { kind: 'move', steps: -1 })
})

test('answers and their digits, by kind of question', (t) => {
  const digits = (criterion: Parameters<typeof answersTo>[0]) =>
    answersTo(criterion, [{ id: 'b' }, { id: 'a' }]).map((value, place) => [value, digitOf(criterion, place)])
  t.deepEqual(digits(PROTOCOLS.caption.criteria[0]!), [[0, 0], [1, 1], [2, 2]]) // prettier-ignore
  t.deepEqual(digits(PROTOCOLS['text-to-image'].criteria[0]!).length, 5)
  t.deepEqual(digits(PROTOCOLS['text-to-image'].criteria[0]!)[0], [1, 1])
  t.deepEqual(digits(PROTOCOLS.vqa.criteria[0]), [['human', 1], ['machine', 2]]) // prettier-ignore
  t.deepEqual(digits(PROTOCOLS.pairwise.criteria[0]), [['b', 1], ['a', 2]]) // prettier-ignore
})

test('colours have the contrast that WCAG 2 asks for at level AA, light and dark', async (t) => {
  const css = await readFile(new URL('../../lib/study/page/page.css', import.meta.url), 'utf8')
  const schemes = [...css.matchAll(/:root \{([^}]*)\}/g)].map(([, text]) =>
    Object.fromEntries(
      [...text!.matchAll(/--([\w-]+): (#\w+);/g)].map(([, name, color]) => [name!, luminance(color!)]),
    ),
  )
  t.is(schemes.length, 2)
  const texts = [
    'ink paper',
    'ink card',
    'ink tint',
    'dim paper',
    'dim card',
    'dim tint',
    'on-accent accent',
    'fault card',
    'fault paper',
  ]
  const edges = ['edge card', 'edge paper', 'accent card', 'accent paper']
  for (const colors of schemes) {
    for (const [pairs, least] of [
      [texts, 4.5],
      [edges, 3],
    ] as const) {
      // prettier-ignore
      for (const pair of pairs) {
        const [a, b] = pair.split(' ').map((name) => colors[name]!)
        const contrast = (Math.max(a!, b!) + 0.05) / (Math.min(a!, b!) + 0.05)
        t.true(contrast >= least, `${pair}: ${contrast}`)
      }
    }
  }
})

/** Relative luminance of a colour such as #fff or #1d2129. */
function luminance(color: string): number {
  const digits =
    color.length === 4 ? [...color.slice(1)].map((digit) => digit + digit) : color.slice(1).match(/../g)!
  const [r, g, b] = digits.map((pair) => {
    const value = parseInt(pair, 16) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
}

test('both languages say all', (t) => {
  for (const [key, text] of Object.entries(messages.zh)) {
    t.is(typeof text, typeof messages.en[key as keyof typeof messages.en])
    if (typeof text === 'string') t.not(text, '')
  }
  t.is(messages.zh.keys.length, messages.en.keys.length)
})
