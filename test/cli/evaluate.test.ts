import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { writeStatistics } from '../../lib/metrics/index.ts'
import { captionFixture } from '../metrics/fixtures.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { cli, cliJson, pictureFolder } from './helpers.ts'

const references = { a: ['a red cat', 'the cat is red'], 'b c': ['two dogs', 'a pair of dogs'] }
const candidates = { 'b c': 'two dogs run', a: 'a red cat' }
/** The same as COCO has it. */
const annotations = {
  info: {},
  annotations: Object.entries(references).flatMap(([image_id, captions]) =>
    captions.map((caption, id) => ({ id, image_id, caption })),
  ),
}
const results = Object.entries(candidates).map(([image_id, caption]) => ({ image_id, caption }))

test('captions: fixtures through files, for programs, in a file, and for people', async (t) => {
  const folder = await temporaryFolder(t)
  const { items, corpus } = captionFixture('zh-characters')
  const [gts, res, out] = ['gts.json', 'res.json', 'out.json'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  await writeFile(gts, JSON.stringify(Object.fromEntries(items.map((item, i) => [`i${i}`, item.references]))))
  await writeFile(res, JSON.stringify(Object.fromEntries(items.map((item, i) => [`i${i}`, item.candidate]))))
  const args = ['evaluate', 'captions', '--references', gts, '--candidates', res, '--tokens', 'characters']
  const report = (await cliJson(t, [...args, '--out', out])) as {
    count: number
    ciderD: number
    bleu: number[]
    items: Record<string, { rougeL: number; bleu: number[] }>
  }
  t.deepEqual(JSON.parse(await readFile(out, 'utf8')), report)
  t.is(report.count, items.length)
  t.true(Math.abs(report.ciderD - corpus.cider) < 1e-12)
  t.true(Math.abs(report.bleu[3]! - corpus.bleu[3]!) < 1e-12)
  t.true(Math.abs(report.items['i3']!.rougeL - items[3]!.rougeL) < 1e-12)
  t.is(report.items['i3']!.bleu.length, 4)
  const row = (title: string, score: number) => `${title.padEnd(22)}${(100 * score).toFixed(1).padStart(6)}`
  const { code, stdout } = await cli([...args, '--metrics', 'bleu,rougeL'])
  t.is(code, 0)
  t.is(
    stdout,
    [
      `${items.length} captions, in percent`,
      ...corpus.bleu.map((score, i) => row(`BLEU-${i + 1}`, score)),
      `${row('ROUGE-L', corpus.rougeL)}
`,
    ].join('\n'),
  )
})

test('captions: COCO files say the same as plain ones; references without a candidate are left out and named', async (t) => {
  const folder = await temporaryFolder(t)
  const write = async (name: string, value: unknown) => {
    await writeFile(join(folder, name), JSON.stringify(value))
    return join(folder, name)
  }
  const run = async (gts: unknown, res: unknown) => {
    const args = ['--references', await write('gts.json', gts), '--candidates', await write('res.json', res)]
    return cli(['evaluate', 'captions', ...args, '--json'])
  }
  const plain = await run(references, candidates)
  t.is(plain.code, 0, plain.stderr)
  t.deepEqual(await run(annotations, results), plain)
  const more = await run({ ...references, d: 'nobody described this' }, { ...candidates, a: ['a red cat'] })
  t.regex(more.stderr, /1 pictures of .*gts\.json have no candidate/)
  t.is(more.stdout, plain.stdout)
})

test('captions: what is wrong with the files', async (t) => {
  const folder = await temporaryFolder(t)
  const [gts, res] = [join(folder, 'gts.json'), join(folder, 'res.json')]
  const bad: [unknown, unknown, RegExp][] = [
    [references, { ...candidates, z: 'a' }, /references in .*gts\.json for "z"/],
    [references, [...results, results[0]], /one caption for "b c"/],
    [references, {}, /at least one caption/],
    [references, 3, /received|Expected .* in .*res\.json, and it is not so/],
    [references, [{ caption: 'a' }], /entry 0 is not so/],
    [references, { a: 3 }, /"a" is not so/],
    [[1], candidates, /its list is not so/],
    [{ a: [] }, candidates, /"a" is not so/],
    [{ annotations: [{ image_id: 1 }] }, candidates, /entry 0 is not so/],
  ]
  const args = ['evaluate', 'captions', '--references', gts, '--candidates', res]
  for (const [known, given, message] of bad) {
    await writeFile(gts, JSON.stringify(known))
    await writeFile(res, JSON.stringify(given))
    const { code, stdout, stderr } = await cli(args)
    t.is(code, 1)
    t.is(stdout, '')
    t.regex(stderr, message)
    t.regex(stderr, /^error: [^\n]+\(ERR_VILG_INVALID_ARGUMENT\)\n$/)
  }
  await writeFile(gts, '{"a": ')
  t.regex((await cli(args)).stderr, /Expected JSON in .*gts\.json.*ERR_VILG_INVALID_ARGUMENT/)
  t.regex((await cli([...args.slice(0, 3), join(folder, 'none'), '--candidates', res])).stderr, /ERR_VILG_IO/)
  await writeFile(gts, JSON.stringify(references))
  await writeFile(res, JSON.stringify(candidates))
  t.regex((await cli([...args, '--metrics', 'spice'])).stderr, /SPICE.*ERR_VILG_UNSUPPORTED/)
})

test('fid: of statistics in files, whose numbers are known', async (t) => {
  const folder = await temporaryFolder(t)
  const [a, b, out] = [join(folder, 'a.npz'), join(folder, 'b.npz'), join(folder, 'fid.json')]
  await writeStatistics(a, { mean: new Float64Array([1, 2]), covariance: new Float64Array([4, 0, 0, 9]) })
  await writeStatistics(b, { mean: new Float64Array([1, 5]), covariance: new Float64Array([1, 0, 0, 1]) })
  const report = await cliJson(t, ['evaluate', 'fid', a, b, '--out', out])
  t.like(report, { dimensions: 2, a: { path: a }, b: { path: b } })
  // 3^2 of the means, (2 - 1)^2 + (3 - 1)^2 of the standard deviations
  t.true(Math.abs((report['fid'] as number) - 14) < 1e-12)
  t.deepEqual(JSON.parse(await readFile(out, 'utf8')), report)
  t.is((await cli(['evaluate', 'fid', a, b])).stdout, 'FID 14.0000\n')
})

test('fid: what is missing is said before any work', async (t) => {
  const folder = await temporaryFolder(t)
  const pictures = await pictureFolder(t, 2)
  const [graph, broken, small] = [
    join(folder, 'inception.onnx'),
    join(folder, 'broken.npz'),
    join(folder, 'b.npz'),
  ]
  await writeFile(graph, '')
  await writeFile(broken, 'PK')
  await writeStatistics(small, { mean: new Float64Array(1), covariance: new Float64Array(1) })
  const bad: [string[], RegExp][] = [
    [['fid', pictures, small], /--inception <file>.*INVALID_ARGUMENT/],
    [['fid', pictures, join(folder, 'none')], /none.*ERR_VILG_IO/],
    [['fid', pictures, pictures, '--inception', join(folder, 'none')], /none.*ERR_VILG_IO/],
    [['fid', pictures, pictures, '--inception', graph], /npm install onnxruntime-node.*ERR_VILG_UNSUPPORTED/],
    [['fid', small, broken], /broken\.npz: .*ERR_VILG_CHECKPOINT_FORMAT/],
    [['fid', small, 'test/fixtures/metrics/statistics-numpy.npz'], /1 dimensions.*ERR_VILG_SHAPE_MISMATCH/],
    [['fid', folder, small], /folder with pictures.*INVALID_ARGUMENT/],
    [['statistics', small, '--out', small], /folder of pictures.*INVALID_ARGUMENT/],
    [['statistics', pictures, '--out', small], /--inception/],
  ]
  for (const [args, message] of bad) {
    const { code, stdout, stderr } = await cli(['evaluate', ...args])
    t.is(code, 1, args.join(' '))
    t.is(stdout, '')
    t.regex(stderr, message)
  }
})

test('the commands below evaluate have help of their own and refuse wrong usage', async (t) => {
  for (const command of ['captions', 'fid', 'statistics']) {
    const { code, stdout } = await cli(['evaluate', command, '--help'])
    t.is(code, 0)
    t.true(stdout.startsWith(`Usage: ernie-vilg evaluate ${command} `), stdout)
    t.true(stdout.includes(`$ ernie-vilg evaluate ${command}`))
    t.regex(stdout, /--json/)
  }
  const wrong: [string[], RegExp][] = [
    [[], /--data <folder>/],
    [['paint'], /too many arguments/],
    [['captions'], /--references/],
    [['captions', '--references', 'a'], /--candidates/],
    [
      ['captions', '--references', 'a', '--candidates', 'b', '--tokens', 'letters'],
      /words, characters, spaces/,
    ],
    [['captions', '--references', 'a', '--candidates', 'b', '--metrics', 'blue'], /bleu, meteor/],
    [['fid', 'a'], /'b'/],
    [['fid', 'a', 'b', '--batch', '0'], /at least 1|from 1/],
    [['statistics', 'a'], /--out/],
    [['--data', 'x', 'fid', 'a', 'b', '--beams', '3'], /unknown option '--beams'/],
  ]
  for (const [args, reason] of wrong) {
    const { code, stdout, stderr } = await cli(['evaluate', ...args])
    t.is(code, 2, args.join(' '))
    t.is(stdout, '')
    t.regex(stderr, reason)
  }
})
