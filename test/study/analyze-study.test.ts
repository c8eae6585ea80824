import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import {
  analyzeStudy,
  krippendorffAlpha,
  type StudyResults,
  studyReport,
  studyTable,
} from '../../lib/study/index.ts'
import { meanEstimate, shareEstimate } from '../../lib/study/statistics.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { picture } from '../sampler/bundle.ts'
import { drawnItems, type MadeStudy, makeStudy, rate } from './helpers.ts'

const systems = ['ours', 'theirs']
/** The number in the id of an item. */
const numberOf = (item: string) => Number(item.replace('item-', ''))

test('ratings: means over items of the mean of their raters, by system, criterion and angle', async (t) => {
  const made = await makeStudy(t, { protocol: 'text-to-image', items: drawnItems(4, systems) })
  const ratings: Record<string, (item: number, system: string) => number> = {
    // ours: 4 or 5; theirs: one less; ben is one higher where that can be
    anna: (item, system) => 4 + (item % 2) - (system === 'theirs' ? 1 : 0),
    ben: (item, system) => Math.min(5, 5 + (item % 2) - (system === 'theirs' ? 1 : 0)),
  }
  const files = await Promise.all(
    Object.entries(ratings).map(([rater, rating]) =>
      rate(made, rater, ({ item, systems: [system], criterion }) =>
        criterion.id === 'texture' ? 3 : rating(numberOf(item), system!),
      ),
    ),
  )
  const { overall, angles, raters, agreement, ...facts } = await analyzeStudy(made.keyFile, files)
  t.deepEqual(facts, {
    study: made.key.study,
    title: 'Pictures drawn from text',
    protocol: 'text-to-image',
    systems,
    items: 4,
    units: 8,
  })
  const clarity = (system: string) =>
    overall.ratings.find((one) => one.criterion === 'clarity' && one.system === system)!
  // Items 0 and 2: anna 4, ben 5; items 1 and 3: both 5. Theirs: 3 and 4; 4 and 5.
  t.deepEqual(clarity('ours').mean, meanEstimate([4.5, 5, 4.5, 5]))
  t.deepEqual(clarity('theirs').mean, meanEstimate([3.5, 4.5, 3.5, 4.5]))
  t.deepEqual(clarity('ours').counts, [0, 0, 0, 2, 6])
  t.deepEqual(clarity('theirs').counts, [0, 0, 2, 4, 2])
  const average = overall.ratings.filter(({ criterion }) => criterion === 'average')
  // Sums of a few numbers of about 5, in another order.
  const expected = [(4.75 + 3 + 4.75) / 3, (4 + 3 + 4) / 3]
  for (const [i, { mean }] of average.entries()) t.true(Math.abs(mean!.value - expected[i]!) < 1e-14)
  t.is(average.length, 2)
  const difference = overall.differences.find(({ criterion }) => criterion === 'clarity')!
  t.deepEqual(difference.difference, meanEstimate([1, 0.5, 1, 0.5]))
  t.deepEqual(
    angles.map(({ angle, items, outcomes }) => [angle, items, outcomes.ratings[0]!.mean!.value]),
    [
      ['view', 2, 5],
      ['style', 2, 4.5],
    ],
  )
  t.deepEqual(raters, [
    { rater: 'anna', answered: 24, expected: 24, constant: ['texture'], medianSeconds: 6, leftRate: null },
    { rater: 'ben', answered: 24, expected: 24, constant: ['texture'], medianSeconds: 6, leftRate: null },
  ])
  const units = [[4, 5], [5, 5], [4, 5], [5, 5], [3, 4], [4, 5], [3, 4], [4, 5]] // prettier-ignore
  t.deepEqual(agreement[0], {
    criterion: 'clarity',
    units: 8,
    alpha: {
      nominal: krippendorffAlpha(units, 'nominal'),
      ordinal: krippendorffAlpha(units, 'ordinal'),
      interval: krippendorffAlpha(units, 'interval'),
    },
  })
  t.deepEqual(agreement[1]!.alpha, { nominal: null, ordinal: null, interval: null }, 'all textures are 3')
})

test('missing answers are left out, and counted', async (t) => {
  const made = await makeStudy(t, {
    protocol: 'text-to-image',
    items: drawnItems(3, systems),
    criteria: ['clarity'],
  })
  const all = await rate(made, 'anna', () => 2)
  const some = await rate(made, 'ben', ({ item, systems: [system] }) =>
    item === 'item-0' && system === 'ours' ? 4 : undefined,
  )
  const { overall, raters, agreement } = await analyzeStudy(made.keyFile, [all, some])
  t.deepEqual(
    overall.ratings.map(({ system, mean, items, counts }) => [system, mean!.value, items, counts]),
    [
      ['ours', (3 + 2 + 2) / 3, 3, [0, 3, 0, 1, 0]],
      ['theirs', 2, 3, [0, 3, 0, 0, 0]],
    ],
  )
  t.deepEqual(
    raters.map(({ answered, expected, constant }) => [answered, expected, constant]),
    [
      [6, 6, ['clarity']],
      [1, 6, []],
    ],
  )
  t.is(agreement[0]!.units, 1)
})

test('the Turing test: who passes for a human, with the answers of humans among them', async (t) => {
  const items = [0, 1, 2, 3, 4].map((i) => ({
    id: `item-${i}`,
    image: picture(i),
    question: 'what?',
    responses: { human: 'a thing', ours: 'the thing' },
  }))
  const made = await makeStudy(t, { protocol: 'vqa', items })
  const file = await rate(made, 'anna', ({ item, systems: [system], criterion }) => {
    if (criterion.id === 'quality') return system === 'human' ? 2 : 1
    return system === 'human' || numberOf(item) < 3 ? 'human' : 'machine'
  })
  const { overall } = await analyzeStudy(made.keyFile, [file])
  t.deepEqual(overall.verdicts, [
    { criterion: 'turing', system: 'human', passed: 5, judged: 5, passRate: shareEstimate(5, 5) },
    { criterion: 'turing', system: 'ours', passed: 3, judged: 5, passRate: shareEstimate(3, 5) },
  ])
  t.deepEqual(
    overall.ratings.map(({ criterion, mean }) => [criterion, mean!.value]),
    [
      ['quality', 2],
      ['quality', 1],
    ],
  )
})

test('pairs: wins against each other system and all others, wherever the pictures were', async (t) => {
  const three = ['ours', 'old', 'theirs']
  const made = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(6, three) })
  // ours beats all, but for fidelity only in the first four items; between the others, old wins
  const choice = ({
    item,
    systems: shown,
    criterion,
  }: {
    item: string
    systems: readonly string[]
    criterion: { id: string }
  }) => {
    const loses = criterion.id === 'fidelity' && numberOf(item) >= 4
    const order = loses ? ['old', 'theirs', 'ours'] : three
    return order.find((system) => shown.includes(system))!
  }
  const files = [await rate(made, 'anna', choice), await rate(made, 'ben', choice)]
  const { overall, agreement, raters } = await analyzeStudy(made.keyFile, files)
  const wins = (criterion: string) =>
    overall.choices
      .filter((one) => one.criterion === criterion)
      .map(({ system, against, wins: won, votes }) => `${system} ${against} ${won}/${votes}`)
  t.deepEqual(wins('fidelity'), [
    'ours old 8/12',
    'ours theirs 8/12',
    'old theirs 12/12',
    'ours null 16/24',
    'old null 16/24',
    'theirs null 4/24',
  ])
  t.deepEqual(wins('semantics').slice(0, 3), ['ours old 12/12', 'ours theirs 12/12', 'old theirs 12/12'])
  t.deepEqual(overall.choices[0]!.winRate, shareEstimate(8, 12))
  t.deepEqual(overall.ratings, [])
  t.deepEqual(agreement[0], { criterion: 'fidelity', units: 18, alpha: { nominal: 1 } })
  for (const { leftRate } of raters) t.true(leftRate!.value > 0 && leftRate!.value < 1)
  const left = await rateLeft(made, 'carl')
  const analysis = await analyzeStudy(made.keyFile, [left])
  t.is(analysis.raters[0]!.leftRate!.value, 1)
})

/** Results of somebody who always chooses the left picture. */
async function rateLeft(made: MadeStudy, rater: string): Promise<string> {
  const path = await rate(made, rater, ({ systems: [first] }) => first)
  const results = JSON.parse(await readFile(path, 'utf8')) as StudyResults
  for (const answers of Object.values(results.answers)) {
    for (const criterion of Object.keys(answers.values)) answers.values[criterion] = answers.first!
  }
  await writeFile(path, JSON.stringify(results))
  return path
}

test('files that do not belong together are refused, each with its reason', async (t) => {
  const made = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(2, systems) })
  const other = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(3, systems), seed: 2 })
  const good = await rate(made, 'anna', ({ systems: [first] }) => first)
  const results = JSON.parse(await readFile(good, 'utf8')) as StudyResults
  const folder = await temporaryFolder(t)
  let count = 0
  const written = async (content: unknown) => {
    const path = join(folder, `${++count}.json`)
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
    return path
  }
  const unit = { values: { fidelity: 'a' }, seconds: 1, first: 'a' }
  const answers = (u1: object) => written({ ...results, answers: { u1 } })
  const wrong: [string, RegExp][] = [
    [join(folder, 'missing.json'), /Cannot read .*missing/],
    [await written('{'), /a JSON file/],
    [await written('[1]'), /a JSON object/],
    [made.keyFile, /it is a key file/],
    [await written({ ...results, format: 'other' }), /its format is "other"/],
    [await written({ ...results, version: 2 }), /its version is 2/],
    [await rate(other, 'ben', ({ systems: [first] }) => first), /it belongs to the study/],
    [await written({ ...results, rater: '' }), /names no rater/],
    [await written({ ...results, answers: 1 }), /answers are missing/],
    [await written({ ...results, answers: { u9: unit } }), /no unit "u9"/],
    [await written(`{"format":"ernie-vilg study results","version":1,"study":"${results.study}","rater":"x","answers":{"__proto__":{}}}`), /no unit "__proto__"/], // prettier-ignore
    [await answers({ ...unit, values: { beauty: 'a' } }), /unit u1, there is no criterion "beauty"/],
    [await answers({ ...unit, values: { fidelity: 'c' } }), /fidelity is "c" and not "a" or "b"/],
    [await answers({ ...unit, values: { fidelity: 1 } }), /fidelity is 1/],
    [await answers({ ...unit, seconds: -1 }), /seconds are -1/],
    [await answers({ ...unit, first: undefined }), /first is undefined/],
  ]
  for (const [path, message] of wrong) {
    const error = await t.throwsAsync(analyzeStudy(made.keyFile, [good, path]), { message }, String(message))
    t.regex((error as Error & { code: string }).code, /^ERR_VILG_(INVALID_ARGUMENT|IO)$/)
    t.true(error!.message.includes(path))
  }
  const ratings = await makeStudy(t, {
    protocol: 'caption',
    items: [{ image: picture(1), responses: { one: 'x' } }],
  })
  for (const value of [3, -1, 1.5, '2', null]) {
    const path = await written({
      ...results,
      study: ratings.key.study,
      answers: { u1: { values: { fluency: value }, seconds: 1 } },
    })
    await t.throwsAsync(analyzeStudy(ratings.keyFile, [path]), { message: /not a whole number from 0 to 2/ })
  }
  const twin = await written({ ...results, rater: ' ANNA ' })
  await t.throwsAsync(analyzeStudy(made.keyFile, [good, twin]), { message: /one file of each rater/ })
  await t.throwsAsync(analyzeStudy(made.keyFile, []), { message: /at least one rater/ })

  const key = JSON.parse(await readFile(made.keyFile, 'utf8')) as object
  const wrongKeys: [object, RegExp][] = [
    [results, /it is a results file/],
    [{ ...key, version: 9 }, /its version is 9/],
    [{ ...key, protocol: 'toString' }, /its protocol is "toString"/],
    [{ ...key, criteria: ['clarity'] }, /criteria are not some of fidelity, semantics/],
    [{ ...key, units: {} }, /units are missing/],
    [{ ...key, units: { u1: { item: '1', systems: ['ours'] } } }, /unit "u1" is not sound/],
    [{ ...key, units: { u1: { item: '1', systems: ['ours', 'nobody'] } } }, /unit "u1" is not sound/],
  ]
  for (const [content, message] of wrongKeys) {
    await t.throwsAsync(analyzeStudy(await written(content), [good]), { message }, String(message))
  }
})

test("angles come in the paper's order, others after them by name", async (t) => {
  const angles = ['zebras', 'time-and-scene', 'apples', 'ms-coco', 'characters']
  const items = drawnItems(5, ['ours']).map((item, i) => ({ ...item, angle: angles[i]! }))
  const made = await makeStudy(t, { protocol: 'text-to-image', items })
  const analysis = await analyzeStudy(made.keyFile, [await rate(made, 'anna', () => 3)])
  t.deepEqual(
    analysis.angles.map(({ angle }) => angle),
    ['ms-coco', 'characters', 'time-and-scene', 'apples', 'zebras'],
  )
})

test('the report and the table show all numbers, and texts as they are written', async (t) => {
  const hostile = '<img src=x onerror=alert(1)>'
  const items = drawnItems(6, systems).map((item) => ({
    ...item,
    angle: hostile,
    responses: { ...item.responses, [hostile]: picture(9) },
  }))
  const made = await makeStudy(t, { protocol: 'text-to-image', items, title: 'A <b>study</b>' })
  const file = await rate(made, 'anna', ({ item }) => 1 + (numberOf(item) % 5))
  const path = await rate(made, 'ben', ({ item, systems: [system] }) =>
    system === 'ours' ? 5 : 1 + (numberOf(item) % 3),
  )
  const results = JSON.parse(await readFile(path, 'utf8')) as StudyResults
  await writeFile(path, JSON.stringify({ ...results, rater: hostile }))
  const analysis = await analyzeStudy(made.keyFile, [file, path])
  const html = await studyReport(analysis)
  t.notRegex(html, /<(script|img)|https?:|\bsrc="/)
  t.true(html.includes('<h1>A &lt;b&gt;study&lt;/b&gt;</h1>'))
  const text = html.replaceAll('&lt;', '<').replaceAll('&gt;', '>')
  const table = studyTable(analysis)
  for (const { mean } of [...analysis.overall.ratings, ...analysis.angles[0]!.outcomes.ratings]) {
    const shown = `${mean!.value.toFixed(2)} [${mean!.interval!.low.toFixed(2)}, ${mean!.interval!.high.toFixed(2)}]`
    t.true(text.includes(shown) && table.includes(shown), shown)
  }
  for (const { alpha } of analysis.agreement)
    t.true(text.includes(alpha.ordinal!.toFixed(3)) && table.includes(alpha.ordinal!.toFixed(3)))
  for (const name of [...systems, hostile, 'anna']) t.true(text.includes(name) && table.includes(name), name)
  t.notRegex(`${html}${table}`, /NaN|undefined|Infinity/)
})

test('a study of one answer has no intervals, and says so', async (t) => {
  const made = await makeStudy(t, { protocol: 'text-to-image', items: drawnItems(1, ['ours']) })
  const file = await rate(made, 'anna', ({ criterion }) => (criterion.id === 'clarity' ? 4 : undefined))
  const analysis = await analyzeStudy(made.keyFile, [file])
  t.deepEqual(analysis.overall.ratings[0]!.mean, { value: 4, interval: null })
  t.is(analysis.overall.ratings[1]!.mean, null)
  t.notRegex(`${await studyReport(analysis)}${studyTable(analysis)}`, /NaN|undefined|Infinity|null/)
})
