import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { format } from 'prettier'

import { gpuTable, readmeTable, withTable } from '../../bench/readme.ts'
import { entries, makeGpuResult } from './gpu/helpers.ts'
import { makeResult } from './helpers.ts'

const results = [
  makeResult('codebook-lookup', { title: 'lookup' }, [20]),
  makeResult(
    'matmul-float32',
    {
      title: 'matmul | odd',
      work: { flops: 1e9 },
      limit: 'float32Flops',
      target: { kind: 'share', atLeast: 0.4 },
    },
    [10],
  ),
]

test('the table is in the order of the issue and says where it comes from', (t) => {
  const lines = readmeTable(results).split('\n')
  t.regex(lines[0]!, /^\| work +\| median/)
  t.regex(lines[2]!, /^\| matmul \\\| odd \| 10\.0 ms .*50 % of 200 GFLOP\/s .*yes +\|$/)
  t.regex(lines[3]!, /^\| lookup +\| 20\.0 ms .*no +\|$/)
  t.is(lines[4], '')
  t.regex(
    lines[5]!,
    /^Measured by `npm run bench` on A | CPU, 2 threads, x86-64-v4, Node 20.19.0, commit 0123456789, 2024-05-06; .*200 GFLOP\/s in float32, 40\.0 GB\/s from memory\.$/,
  )
  t.is(lines.length, 6)
})

test('results of several commits are told apart', (t) => {
  const other = makeResult('train-step', {}, [1])
  other.git = { commit: 'f'.repeat(40), dirty: true }
  const table = readmeTable([...results, other])
  t.regex(table, /commit 0123456789, 2024-05-06 \(matmul-float32, codebook-lookup\)/)
  t.regex(table, /commit ffffffffff with changes, 2024-05-06 \(train-step\)/)
})

test('no results, no table', (t) => {
  t.throws(() => readmeTable([]), { message: /npm run bench/ })
})

test('the table goes between its markers, once', (t) => {
  const before = '# Title\n\n<!-- bench:start -->\nold\n<!-- bench:end -->\n\nrest\n'
  const after = withTable(before, 'new')
  t.is(after, '# Title\n\n<!-- bench:start -->\n\nnew\n\n<!-- bench:end -->\n\nrest\n')
  t.is(withTable(after, 'new'), after)
  for (const text of [
    'no markers',
    '<!-- bench:start -->',
    '<!-- bench:end --> <!-- bench:start -->',
    '<!-- bench:start --><!-- bench:end --><!-- bench:start --><!-- bench:end -->',
  ]) {
    t.throws(() => withTable(text, 'x'), { message: /bench:start/ }, text)
  }
})

test('prettier leaves the table as it is', async (t) => {
  const text = withTable('<!-- bench:start --><!-- bench:end -->\n', readmeTable(results))
  t.is(await format(text, { parser: 'markdown', printWidth: 110 }), text)
})

test('the command writes the table, and --check sees whether it is stale', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-readme-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const readme = join(folder, 'README.md')
  await mkdir(join(folder, 'results'))
  await writeFile(join(folder, 'results', 'codebook-lookup.json'), JSON.stringify(results[0]))
  await writeFile(readme, 'a\n\n<!-- bench:start -->\n<!-- bench:end -->\n')
  const run = (...args: string[]) =>
    promisify(execFile)(process.execPath, [
      ...['--import', 'tsx', 'bench/readme-table.ts', '--readme', readme],
      ...['--results', join(folder, 'results'), ...args],
    ])
  const stale = await t.throwsAsync<Error & { code: number; stderr: string }>(run('--check'))
  t.is(stale!.code, 1)
  t.regex(stale!.stderr, /is not that of/)
  t.notRegex(await readFile(readme, 'utf8'), /lookup/)
  await run()
  t.regex(await readFile(readme, 'utf8'), /\| lookup \| 20\.0 ms/)
  await t.notThrowsAsync(run('--check'))
})

test('a GPU has a table of its own, with what was not right there', async (t) => {
  const [line, , first] = gpuTable(makeGpuResult(entries)).split('\n')
  t.regex(line!, /^\| work +\| median +\| against +\| to reach +\| reached \|$/)
  t.regex(first!, /^\| row attention forward.*batch 1 .*\| not measured/)
  const table = gpuTable(makeGpuResult(entries))
  t.regex(
    table,
    /\n\nMeasured by `npm run gpu` on NVIDIA H200, driver 580\.1, cublasLt 13\.1\.0, PyTorch 2\.11\.0, Node 20\.19\.0, commit 0123456789, 2024-05-06\.$/,
  )
  const wrong = gpuTable(makeGpuResult(entries, [{ check: 'native tests', ok: false, detail: '1 failed' }]))
  t.regex(wrong, /2024-05-06\. \*\*Not right there: native tests\.\*\*$/)
  const text = withTable('<!-- bench:start --><!-- bench:end -->\n', `${readmeTable(results)}\n\n${wrong}`)
  t.is(await format(text, { parser: 'markdown', printWidth: 110 }), text)
})

test("the command writes a GPU's table where there is a result of one", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-readme-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const readme = join(folder, 'README.md')
  await mkdir(join(folder, 'results', 'gpu'), { recursive: true })
  await writeFile(join(folder, 'results', 'codebook-lookup.json'), JSON.stringify(results[0]))
  await writeFile(readme, '<!-- bench:start -->\n<!-- bench:end -->\n')
  const run = () =>
    promisify(execFile)(process.execPath, [
      ...['--import', 'tsx', 'bench/readme-table.ts', '--readme', readme],
      ...['--results', join(folder, 'results')],
    ])
  await run()
  t.notRegex(await readFile(readme, 'utf8'), /npm run gpu/)
  await writeFile(join(folder, 'results', 'gpu', 'nvidia-h200.json'), JSON.stringify(makeGpuResult(entries)))
  await run()
  t.regex(await readFile(readme, 'utf8'), /lookup[^]*npm run bench[^]*row attention[^]*npm run gpu/)
})
