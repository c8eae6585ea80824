import { readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import test from 'ava'
import { Sampler } from '../../lib/index.ts'
import { generateResponses, type StudyAnalysis, type StudyKey } from '../../lib/study/index.ts'
import { cli, cliJson, pictureFolder, savedBundle } from '../cli/helpers.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { picture, tinyBundle } from '../sampler/bundle.ts'
import { pageStudy, rate } from './helpers.ts'

test('from pictures to a report', async (t) => {
  const folder = await pictureFolder(t, 4)
  const lines = [0, 1].map((i) =>
    JSON.stringify({
      text: `text ${i}`,
      angle: 'style',
      responses: { ours: `${i}.png`, theirs: `${i + 2}.png` },
    }),
  )
  const items = join(folder, 'items.jsonl')
  await writeFile(items, `\ufeff${lines.join('\r\n\r\n')}\n`)
  const page = join(folder, 'out', 'study.html')
  const {
    seed,
    pageBytes,
    study: id,
    ...created
  } = await cliJson(t, [
    ...['study', 'create', '--protocol', 'pairwise', '--items', items, '--out', page, '--study-seed', '5'],
    ...['--criteria', 'semantics', '--title', 'Which one?'],
  ])
  const keyFile = page.replace('.html', '.key.json')
  t.deepEqual(created, {
    protocol: 'pairwise',
    page,
    key: keyFile,
    items: 2,
    units: 2,
    systems: ['ours', 'theirs'],
    warnings: [],
  })
  t.is(seed, 5)
  const html = await readFile(page, 'utf8')
  t.is(pageBytes, Buffer.byteLength(html))
  const key = JSON.parse(await readFile(keyFile, 'utf8')) as StudyKey
  t.is(id, key.study)
  const made = { folder, page, keyFile, html, study: pageStudy(html), key, warnings: [] }
  const results = [await rate(made, 'anna', () => 'ours'), await rate(made, 'ben', () => 'theirs')]
  const [report, out] = [join(folder, 'report.html'), join(folder, 'analysis.json')]
  const args = ['study', 'analyze', ...results, '--key', keyFile]
  const analysis = (await cliJson(t, [...args, '--report', report, '--out', out])) as unknown as StudyAnalysis
  t.deepEqual(
    analysis.overall.choices.map(({ system, wins, votes }) => [system, wins, votes]),
    [['ours', 2, 4]],
  )
  t.deepEqual(JSON.parse(await readFile(out, 'utf8')), analysis)
  t.regex(await readFile(report, 'utf8'), /<h1>Which one\?<\/h1>/)
  const text = await cli(args)
  t.is(text.code, 0)
  t.regex(text.stdout, /ours over theirs +50\.0 %/)
  const again = await cli(['study', 'create', '--protocol', 'pairwise', '--items', items, '--out', page])
  t.is(again.code, 1)
  t.regex(again.stderr, /there already.*ERR_VILG_INVALID_ARGUMENT/)
})

test('the model draws and describes what is to be judged', async (t) => {
  const model = await savedBundle(t)
  const folder = await pictureFolder(t, 2)
  const texts = join(folder, 'texts.jsonl')
  await writeFile(texts, '{"text": "红苹果"}\n{"text": "绿叶子"}\n')
  const drawn = join(folder, 'drawn.html')
  const create = ['study', 'create', '--generate', 'ours', '--model', model]
  const { systems } = await cliJson(t, [
    ...[...create, '--protocol', 'text-to-image', '--items', texts, '--out', drawn],
    ...['--count', '2', '--seed', '3'],
  ])
  t.deepEqual(systems, ['ours'])
  t.is(Object.keys(pageStudy(await readFile(drawn, 'utf8')).pictures).length, 2)
  const images = join(folder, 'images.jsonl')
  await writeFile(
    images,
    '{"image": "0.png", "responses": {"human": "苹果"}}\n{"image": "1.png", "responses": {"human": "叶"}}\n',
  )
  const described = join(folder, 'described.html')
  await cliJson(t, [...create, '--protocol', 'caption', '--items', images, '--out', described])
  const { units } = pageStudy(await readFile(described, 'utf8'))
  t.is(units.length, 4)
  for (const { responses } of units) t.truthy(responses[0]!.text)
  const asked = join(folder, 'asked.jsonl')
  await writeFile(asked, '{"image": "0.png", "question": "苹果?"}\n')
  const page = join(folder, 'vqa.html')
  const answers = await cli([...create, '--protocol', 'vqa', '--items', asked, '--out', page])
  t.is(answers.code, 1)
  t.regex(answers.stderr, /ERR_VILG_UNSUPPORTED/, 'this model was not trained to answer')
})

test('a model that was trained to answer questions does', async (t) => {
  const model = await tinyBundle(t, { trainedFor: ['visual-question-answering'] })
  const items = [{ image: picture(1), question: '苹果', responses: { human: '红' } }]
  const options = { protocol: 'vqa', system: 'ours' } as const
  const [item] = await generateResponses(new Sampler(model), items, options)
  const [expected] = await new Sampler(model).answer(picture(1), '苹果')
  t.deepEqual(item, { ...items[0]!, id: '1', responses: { human: '红', ours: expected!.text } })
  const twice = { ...options, count: 2 }
  await t.throwsAsync(generateResponses(new Sampler(model), items, twice), { message: /count 2 is not for/ })
})

test('wrong usage and bad files: exit codes 2 and 1, and no files', async (t) => {
  const folder = await temporaryFolder(t)
  const items = join(folder, 'items.jsonl')
  await writeFile(items, '{"text": "x", "responses": {}}\nnonsense\n')
  const page = join(folder, 'study.html')
  const create = ['study', 'create', '--items', items, '--out', page]
  const cases: [string[], number, RegExp][] = [
    [['study'], 2, /create/],
    [['study', 'paint'], 2, /unknown command/],
    [create, 2, /--protocol/],
    [[...create, '--protocol', 'beauty'], 2, /text-to-image/],
    [['study', 'create', '--protocol', 'vqa', '--items', items, '--out', 'x.txt'], 2, /\.html/],
    [[...create, '--protocol', 'vqa', '--count', '2'], 2, /--generate/],
    [[...create, '--protocol', 'vqa', '--image-size', '0'], 2, /from 1 to 4096/],
    [[...create, '--protocol', 'vqa'], 1, /items\.jsonl, line 2/],
    [['study', 'analyze', '--key', 'k'], 2, /results/],
    [['study', 'analyze', 'a.json'], 2, /--key/],
    [['study', 'analyze', 'a.json', '--key', join(folder, 'none')], 1, /ERR_VILG_IO/],
  ]
  for (const [args, expected, reason] of cases) {
    const { code, stderr, stdout } = await cli(args)
    t.is(code, expected, args.join(' '))
    t.regex(`${stderr}${stdout}`, reason)
  }
  t.deepEqual(await readdir(folder), [basename(items)])
})
