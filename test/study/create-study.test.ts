import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import vm from 'node:vm'
import test from 'ava'
import sharp from 'sharp'
import { encodePng } from '../../lib/index.ts'
import { createStudy, type CreateStudyOptions, type StudyItem } from '../../lib/study/index.ts'
import { joinScripts, PAGE_SCRIPTS } from '../../lib/study/page-html.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { picture } from '../sampler/bundle.ts'
import { drawnItems, makeStudy, pageStudy } from './helpers.ts'

const systems = ['Quokka-7', 'Zebrafish']
const hostile = [
  '</script><script>globalThis.hit = 1</script>',
  '<!--<script>',
  '<img src=x onerror="globalThis.hit = 1">',
  '\u2028\u2029"\'`${1}&amp;&lt;',
]

test('a page names no system, loads nothing, and has all pictures in it', async (t) => {
  const { html, study, key } = await makeStudy(t, {
    protocol: 'text-to-image',
    items: drawnItems(5, systems),
  })
  for (const name of [...systems, 'item-', 'style', '"seed"'])
    t.false(JSON.stringify(study).includes(name), name)
  for (const name of systems) t.false(html.toLowerCase().includes(name.toLowerCase()))
  t.notRegex(html, /https?:|<link|@import|url\(|\bsrc="(?!data:)/)
  t.is(study.units.length, 10)
  t.is(Object.keys(study.pictures).length, 10)
  for (const uri of Object.values(study.pictures)) t.regex(uri, /^data:image\/png;base64,[\w+/]+=*$/)
  t.deepEqual(
    study.units.map(({ id }) => id),
    Object.keys(key.units),
  )
  // Each unit shows the picture and the text that the key says it does.
  const items = drawnItems(5, systems)
  for (const { id, text, responses } of study.units) {
    const { item, systems: shown, angle } = key.units[id]!
    const source = items.find((one) => one.id === item)!
    t.is(text, source.text)
    t.is(angle, source.angle)
    const png = await encodePng(source.responses[shown[0]!] as Parameters<typeof encodePng>[0])
    t.is(study.pictures[responses[0]!.image!], `data:image/png;base64,${png.toString('base64')}`)
  }
})

test('the content security policy allows just the script and the style of the page', async (t) => {
  const { html } = await makeStudy(t, { protocol: 'pairwise', items: drawnItems(2, systems) })
  const policy = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(html)![1]!
  t.regex(policy, /^default-src 'none'; /)
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`
  t.true(policy.includes(`script-src ${hash(/<script type="module">(.*?)<\/script>/s.exec(html)![1]!)};`))
  t.true(policy.includes(`style-src ${hash(/<style>(.*?)<\/style>/s.exec(html)![1]!)};`))
})

test('texts of users are data, whatever they look like', async (t) => {
  const items = hostile.map((text, i) => ({ image: picture(i), responses: { one: text, two: `${text}!` } }))
  const { html, study } = await makeStudy(t, {
    protocol: 'caption',
    items,
    title: hostile[0]!,
    instructions: hostile.join('\n'),
  })
  // The page's own two scripts, and no other element that such a text could make.
  t.is(html.match(/<script/gi)!.length, 2)
  t.is(html.match(/<\/script/gi)!.length, 2)
  t.notRegex(html, /<(img|!--)/)
  t.true(html.includes('<title>&lt;/script&gt;&lt;script&gt;'))
  const shown = study.units.map(({ responses }) => responses[0]!.text)
  t.deepEqual(shown.sort(), hostile.flatMap((text) => [text, `${text}!`]).sort())
})

test('same options and seed, same page; another seed, another order; a random seed unless given', async (t) => {
  const items = drawnItems(20, systems)
  const [first, again, other] = await Promise.all(
    [1, 1, 2].map((seed) => makeStudy(t, { protocol: 'pairwise', items, seed })),
  )
  t.is(first!.html, again!.html)
  t.deepEqual(first!.key, again!.key)
  t.not(first!.study.study, other!.study.study)
  t.notDeepEqual(Object.values(first!.key.units), Object.values(other!.key.units))
  // Which response is called a is random: 20 fair coins all alike, once in half a million seeds.
  const firsts = Object.values(first!.key.units).map((unit) => unit.systems[0])
  t.is(new Set(firsts).size, 2)
  const random = await Promise.all(
    [0, 1].map(() => makeStudy(t, { protocol: 'pairwise', items, seed: undefined })),
  )
  t.not(random[0]!.key.seed, random[1]!.key.seed)
})

test('pairs: each with each, or all with one', async (t) => {
  const items = drawnItems(2, ['a1', 'b1', 'c1'])
  const pairsOf = async (against?: string) => {
    const { key } = await makeStudy(t, { protocol: 'pairwise', items, ...(against ? { against } : {}) })
    return Object.values(key.units)
      .map((unit) => [...unit.systems].sort().join())
      .sort()
  }
  t.deepEqual(await pairsOf(), ['a1,b1', 'a1,b1', 'a1,c1', 'a1,c1', 'b1,c1', 'b1,c1'])
  t.deepEqual(await pairsOf('b1'), ['a1,b1', 'a1,b1', 'b1,c1', 'b1,c1'])
})

test('pictures lose what their files say of where they come from, and are in the page once', async (t) => {
  const folder = await temporaryFolder(t)
  const path = join(folder, 'Zebrafish.jpg')
  await sharp(Buffer.from(picture(1, 32).pixels), { raw: { width: 32, height: 32, channels: 3 } })
    .resize(32, 16, { fit: 'fill' })
    .withExif({ IFD0: { Software: 'Zebrafish 3' } })
    .jpeg()
    .toFile(path)
  t.true((await readFile(path)).includes('Zebrafish 3'))
  const items = [{ image: path, responses: { one: 'a', two: 'b' } }]
  const { study } = await makeStudy(t, { protocol: 'caption', items })
  const [uri, ...others] = Object.values(study.pictures)
  t.is(others.length, 0)
  const png = Buffer.from(uri!.split(',')[1]!, 'base64')
  t.false(png.includes('Zebrafish'))
  const { width, height } = await sharp(png).metadata()
  t.deepEqual([width, height], [32, 16])
})

test('pictures of different sizes are warned of, and made alike where asked', async (t) => {
  const items = [{ text: 'x', responses: { one: picture(1, 8), two: picture(2, 16) } }]
  const made = await makeStudy(t, { protocol: 'text-to-image', items })
  t.is(made.warnings.length, 1)
  t.regex(made.warnings[0]!, /one: 8 x 8; two: 16 x 16.*imageSize/)
  const alike = await makeStudy(t, { protocol: 'text-to-image', items, imageSize: 12 })
  t.deepEqual(alike.warnings, [])
  for (const uri of Object.values(alike.study.pictures)) {
    t.is((await sharp(Buffer.from(uri.split(',')[1]!, 'base64')).metadata()).width, 12)
  }
})

test('what does not fit together is refused, with a reason, and leaves no file', async (t) => {
  const drawn = drawnItems(2, systems)
  const described: StudyItem[] = [{ image: picture(1), responses: { one: 'a', two: 'b' } }]
  const wrong: [Partial<CreateStudyOptions>, RegExp][] = [
    [{ protocol: 'drawing' as 'vqa' }, /one of "text-to-image", .*protocol/],
    [{ items: [] }, /at least one item/],
    [{ items: [undefined as unknown as StudyItem] }, /items\[0\]/],
    [{ items: [{ ...drawn[0]!, colour: 1 } as StudyItem] }, /unknown key "colour"/],
    [{ items: [{ ...drawn[0]!, text: ' ' }] }, /items\[0\]\.text/],
    [{ items: [{ responses: drawn[0]!.responses }] }, /items\[0\]\.text/],
    [{ items: [drawn[0]!, drawn[0]!] }, /items\[1\]\.id/],
    [{ items: [{ ...drawn[0]!, image: picture(1) }] }, /image is not for the protocol text-to-image/],
    [{ items: [drawn[0]!, { text: 'x', responses: { Zebrafish: picture(1) } }] }, /same systems.*"Quokka-7"/],
    [{ items: [{ text: 'x', responses: {} }] }, /at least one system/],
    [
      { items: [{ text: 'x', responses: { one: 'missing.png' } }] },
      /item "1": Cannot read the picture missing/,
    ],
    [{ items: [{ text: 'x', responses: { one: 5 as unknown as string } }] }, /a path/],
    [{ protocol: 'caption', items: [{ ...described[0]!, responses: { one: '' } }] }, /not empty/],
    [{ protocol: 'caption', items: described, imageSize: 8 }, /imageSize is not for the protocol caption/],
    [{ protocol: 'pairwise', items: drawnItems(1, ['one']) }, /at least two systems/],
    [{ protocol: 'pairwise', against: 'Nobody' }, /one of "Quokka-7", "Zebrafish" for against/],
    [{ against: 'Zebrafish' }, /against is not for/],
    [{ criteria: ['beauty'] }, /"clarity", "texture", "relevance"/],
    [{ criteria: [] }, /at least one criterion/],
    [{ title: 'Is zebrafish better?' }, /no name of a system in title.*Zebrafish/],
    [{ instructions: 'Not Quokka-7!' }, /no name of a system in instructions/],
    [{ language: 'fr' as 'en' }, /"en", "zh"/],
    [{ seed: -1 }, /seed/],
    [{ colour: 'red' } as Partial<CreateStudyOptions>, /unknown key "colour"/],
  ]
  for (const [changes, reason] of wrong) {
    const folder = await temporaryFolder(t)
    const paths = { page: join(folder, 'a.html'), key: join(folder, 'a.json') }
    const options = { protocol: 'text-to-image' as const, items: drawn, ...paths, ...changes }
    const error = await t.throwsAsync(createStudy(options), { message: reason }, String(reason))
    t.regex((error as Error & { code: string }).code, /^ERR_VILG_(INVALID_ARGUMENT|IO)$/)
    t.deepEqual(await readdir(folder), [])
  }
  // A word that only contains the name is none.
  await t.notThrowsAsync(makeStudy(t, { protocol: 'text-to-image', items: drawn, title: 'Zebrafishes' }))
})

test('files that are there are not overwritten by accident: results need their key', async (t) => {
  const { page, keyFile, html } = await makeStudy(t, {
    protocol: 'text-to-image',
    items: drawnItems(2, systems),
  })
  const options = { protocol: 'text-to-image' as const, items: drawnItems(3, systems), page, key: keyFile }
  await t.throwsAsync(createStudy(options), { code: 'ERR_VILG_INVALID_ARGUMENT', message: /there already/ })
  t.is(await readFile(page, 'utf8'), html)
  const { key } = await createStudy({ ...options, overwrite: true })
  t.is(pageStudy(await readFile(page, 'utf8')).study, key.study)
  await t.throwsAsync(createStudy({ ...options, key: page, overwrite: true }), { message: /another file/ })
})

test('an abort ends the making with its reason, and leaves no file', async (t) => {
  const folder = await temporaryFolder(t)
  const controller = new AbortController()
  const reason = new Error('enough')
  const work = createStudy({
    protocol: 'text-to-image',
    items: drawnItems(20, systems),
    page: join(folder, 'a.html'),
    key: join(folder, 'a.json'),
    signal: controller.signal,
    onProgress: ({ fraction }) => fraction > 0.3 && controller.abort(reason),
  })
  t.is(await t.throwsAsync(work), reason)
  t.deepEqual(await readdir(folder), [])
})

test("the page's modules can be joined: no cycles, no double names, no other imports", async (t) => {
  const seen = new Set<string>()
  const folder = new URL('../../lib/study/page/', import.meta.url)
  for (const name of PAGE_SCRIPTS) {
    const source = await readFile(new URL(name, folder), 'utf8')
    for (const [, names, from] of source.matchAll(/^import ([^']*?) from '([^']*)'$/gm)) {
      t.regex(names!, /^\{[\w\s,]+\}$/, `${name} imports by name`)
      t.notRegex(names!, /\bas\b/, `${name} does not rename`)
      t.true(seen.has(from!.replace('./', '')), `${name} imports ${from} before it is there`)
    }
    t.notRegex(
      source,
      /^export (default|\{|\*)|innerHTML|insertAdjacentHTML|document\.write|\beval\b|https?:/m,
      name,
    )
    seen.add(name)
  }
  t.deepEqual([...seen].sort(), (await readdir(folder)).filter((name) => name.endsWith('.js')).sort())
  const joined = await joinScripts()
  t.notThrows(() => new vm.Script(joined))
  t.notRegex(joined, /<\/script|<!--/)
})
