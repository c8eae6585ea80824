import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { analyzeStudy, studyReport } from '../../lib/study/index.ts'
import { picture } from '../sampler/bundle.ts'
import { type Browser, type BrowserContext, launch, type Page } from './browser.ts'
import { drawnItems, type MadeStudy, makeStudy, rate } from './helpers.ts'

// Run by `npm run test:browser`, which finds a browser; skipped elsewhere.
const executablePath = process.env.VILG_TEST_BROWSER
const inBrowser = executablePath ? test.serial : test.skip

let browser: Browser
test.before(async () => {
  if (executablePath) browser = await launch(executablePath)
})
test.after.always(() => browser?.close())

const systems = ['ours', 'theirs']
const phone = { width: 390, height: 844 }
const fitsWidth = 'document.documentElement.scrollWidth <= innerWidth'

/** What went wrong in the visits of the test that runs. */
let faults: string[] = []
test.beforeEach(() => {
  faults = []
})
test.afterEach((t) => {
  t.deepEqual(faults, [])
})

/** A visit, in which nothing may go wrong and nothing may be fetched. */
async function visit(file: string, context: BrowserContext): Promise<Page> {
  const page = await context.newPage()
  page.on('pageerror', (error) => faults.push(error.stack ?? error.message))
  page.on('console', (message) => faults.push(`${message.type()}: ${message.text()}`))
  page.on('dialog', (dialog) => {
    faults.push(dialog.message())
    void dialog.dismiss()
  })
  page.on('request', (request) => {
    if (!/^(file|data|blob):/.test(request.url())) faults.push(request.url())
  })
  await page.goto(pathToFileURL(file).href)
  return page
}

async function begin(page: Page, rater: string): Promise<void> {
  await page.fill('#rater', rater)
  await page.click('button[type=submit]')
}

/** Saves the results and gives the path of the file. */
async function saved(page: Page, { folder }: MadeStudy, button: string, name: string): Promise<string> {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)])
  const path = join(folder, name)
  await download.saveAs(path)
  return path
}

inBrowser('a rater works by keys, leaves, comes back, and saves what can be analyzed', async (t) => {
  const made = await makeStudy(t, { protocol: 'text-to-image', items: drawnItems(2, systems) })
  const context = await browser.newContext()
  const first = await visit(made.page, context)
  await begin(first, ' Anna \u00a0 B ')
  for (let i = 0; i < 2; i++) for (const key of ['4', '3', '5', 'Enter']) await first.keyboard.press(key)
  t.is(await first.textContent('#progress-text'), '2 of 4 answered')
  await first.close()

  const second = await visit(made.page, context)
  await begin(second, 'Anna B')
  t.is(await second.textContent('h2'), '3 of 4')
  await second.keyboard.press('?')
  t.true(await second.isVisible('dialog[open]'))
  await second.keyboard.press('2')
  await second.keyboard.press('Escape')
  t.is(await second.textContent('#progress-text'), '2 of 4 answered')
  await second.click('#language')
  t.is(await second.getAttribute('html', 'lang'), 'zh-CN')
  for (let i = 0; i < 2; i++)
    for (const key of ['4', '3', '5', 'ArrowRight']) await second.keyboard.press(key)
  const path = await saved(second, made, '#save-end', 'anna.json')
  const { overall, raters } = await analyzeStudy(made.keyFile, [path])
  t.deepEqual(
    overall.ratings.slice(0, 6).map(({ mean }) => mean!.value),
    [4, 4, 3, 3, 5, 5],
  )
  t.like(raters[0], { rater: 'Anna B', answered: 12, expected: 12 })
  await context.close()
})

inBrowser('a click answers; an arrow after it changes nothing; a picture opens', async (t) => {
  const made = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(2, systems) })
  const context = await browser.newContext({ viewport: phone, colorScheme: 'dark' })
  const page = await visit(made.page, context)
  await begin(page, 'ben')
  await page.click('#criterion-fidelity .option >> nth=1')
  // There is no screen before the first: the key must not reach the radio button either, which would take the other picture.
  await page.keyboard.press('ArrowLeft')
  t.true(await page.isChecked('#criterion-fidelity input >> nth=1'))
  await page.keyboard.press('ArrowRight')
  t.is(await page.textContent('h2'), '2 of 2')
  await page.keyboard.press('ArrowLeft')
  t.true(await page.isChecked('#criterion-fidelity input >> nth=1'))
  t.is(await page.getAttribute('[aria-current]', 'id'), 'criterion-semantics')
  await page.click('.picture >> nth=0')
  t.true(await page.isVisible('dialog[open] img'))
  await page.click('dialog button')
  t.true(await page.evaluate(fitsWidth))
  const path = await saved(page, made, '#save', 'ben.json')
  const results = JSON.parse(await readFile(path, 'utf8')) as {
    answers: Record<string, { values: object; first: string }>
  }
  const [answers] = Object.values(results.answers)
  t.deepEqual(answers!.values, { fidelity: answers!.first === 'a' ? 'b' : 'a' })
  await context.close()
})

inBrowser('without storage, a rater goes on from a saved file; others are refused', async (t) => {
  const made = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(2, systems) })
  const other = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(2, systems), seed: 2 })
  const earlier = await rate(made, 'carla', ({ item, systems: [one] }) =>
    item === 'item-0' ? one : undefined,
  )
  const foreign = await rate(other, 'carla', ({ systems: [one] }) => one)
  const context = await browser.newContext()
  await context.addInitScript({
    content:
      "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied', 'SecurityError') } })",
  })
  const page = await visit(made.page, context)
  t.regex((await page.textContent('.notice'))!, /does not keep your answers/)
  await page.setInputFiles('#earlier', foreign)
  await page.waitForFunction("document.querySelector('#file-fault').textContent !== ''")
  t.is(await page.textContent('#file-fault'), 'This results file belongs to another study.')
  await page.setInputFiles('#earlier', earlier)
  await page.waitForSelector('#progress-text')
  t.is(await page.textContent('#progress-text'), '1 of 2 answered')
  await page.keyboard.press('1')
  await page.keyboard.press('2')
  const path = await saved(page, made, '#save', 'carla-2.json')
  t.like((await analyzeStudy(made.keyFile, [path])).raters[0], { rater: 'carla', answered: 4, expected: 4 })
  await context.close()
})

inBrowser('hostile texts run nothing, in the page and in the report', async (t) => {
  const text =
    '</script><script>alert(1)</script><img src="https://example.invalid/x" onerror="alert(2)"><!--'
  const items = [{ image: picture(1), question: text, responses: { [text]: text } }]
  const made = await makeStudy(t, { protocol: 'vqa', items, title: 'x', instructions: text.slice(1) })
  const context = await browser.newContext()
  const page = await visit(made.page, context)
  await begin(page, text.slice(0, 90))
  t.deepEqual(await page.locator('.text p').allTextContents(), [text, text])
  t.is(await page.locator('img').count(), 1)
  const file = await rate(made, 'rater', ({ criterion }) => (criterion.kind === 'rating' ? 1 : 'human'))
  const report = join(made.folder, 'report.html')
  await writeFile(report, await studyReport(await analyzeStudy(made.keyFile, [file])))
  const second = await visit(report, context)
  t.true((await second.locator('.name').allTextContents()).includes(text))
  await context.close()
})

inBrowser('nothing is wider than a phone, in any protocol', async (t) => {
  const given = { image: picture(1, 64), responses: { ours: 'x'.repeat(300), theirs: '一'.repeat(200) } }
  const studies = [
    await makeStudy(t, { protocol: 'caption', items: [given] }),
    await makeStudy(t, { protocol: 'vqa', items: [{ ...given, question: 'what?' }], language: 'zh' }),
    await makeStudy(t, { protocol: 'text-to-image', items: drawnItems(1, systems) }),
  ]
  const context = await browser.newContext({ viewport: phone })
  for (const made of studies) {
    const page = await visit(made.page, context)
    const fits = () => page.evaluate(fitsWidth)
    t.true(await fits())
    await begin(page, 'dora')
    t.true(await fits(), made.key.protocol)
    await page.close()
  }
  await context.close()
})

inBrowser('what was missed is found; another visit goes on there, another rater begins anew', async (t) => {
  const items = [0, 1].map((i) => ({
    image: picture(i),
    question: 'what?',
    responses: { one: 'x', two: 'y' },
  }))
  const made = await makeStudy(t, { protocol: 'vqa', items, language: 'zh' })
  const context = await browser.newContext()
  const first = await visit(made.page, context)
  await begin(first, '安娜')
  const keys = ['1', '0', 'ArrowRight', 'ArrowRight', '9', '2', '2', 'ArrowRight', 'ArrowRight']
  for (const key of keys) await first.keyboard.press(key)
  t.is(await first.textContent('h2'), '有 2 屏的问题尚未答完。')
  await first.click('#to-missing')
  t.is(await first.textContent('h2'), '第 2 / 4 屏')
  const second = await visit(made.page, context)
  await begin(second, '安娜')
  t.is(await second.textContent('h2'), '第 2 / 4 屏')
  t.is(await second.textContent('#progress-text'), '已完成 2 / 4')
  const third = await visit(made.page, context)
  await begin(third, 'ben')
  t.is(await third.textContent('#progress-text'), '已完成 0 / 4')
  await third.click('#language')
  t.is(await third.textContent('legend'), 'Human or machine?')
  await context.close()
})

inBrowser('all that can be pressed has a name, all questions a legend, all pictures a text', async (t) => {
  const made = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(1, systems) })
  const context = await browser.newContext()
  const page = await visit(made.page, context)
  const faultsOf = `[
    ...[...document.querySelectorAll('button')].filter((one) => !(one.ariaLabel || one.textContent.trim())),
    ...[...document.querySelectorAll('input')].filter((one) => one.labels.length === 0),
    ...[...document.querySelectorAll('img')].filter((one) => !one.alt),
    ...[...document.querySelectorAll('fieldset')].filter((one) => !one.querySelector('legend')),
  ].map((one) => one.outerHTML)`
  const check = async () => {
    t.deepEqual(await page.evaluate(faultsOf), [])
    t.is(await page.locator('h1, h2').count(), 1)
    t.is(await page.locator('[role=status]').count(), 1)
  }
  await check()
  await page.click('button[type=submit]')
  t.is(await page.textContent('#rater-fault'), 'Please give a name or number.')
  await begin(page, 'anna')
  await check()
  t.is(await page.evaluate('document.activeElement.id'), 'heading')
  t.deepEqual(await page.locator('figcaption').allTextContents(), ['Left', 'Right'])
  // The radio buttons of a question are one stop; up and down change the answer.
  await page.click('#criterion-fidelity .option >> nth=0')
  await page.keyboard.press('ArrowDown')
  t.true(await page.isChecked('#criterion-fidelity input >> nth=1'))
  await page.keyboard.press('Tab')
  t.is(await page.evaluate('document.activeElement.name'), 'semantics')
  await page.keyboard.press('Space')
  await page.keyboard.press('Enter')
  t.is(await page.textContent('h2'), 'Thank you, that was all.')
  await check()
  await context.close()
})
