import test from 'ava'

import { judgeRows } from '../../../bench/gpu/judge.ts'
import { PEERS, WITHOUT_LIBRARY } from '../../../bench/gpu/rows.ts'
import { drawTokenBytes } from '../../../bench/flops.ts'
import { checkLines, tableRows, targetRows } from '../../../bench/gpu/table.ts'
import { entries, rows, settings, took } from './helpers.ts'

const judged = judgeRows(rows, entries)
const claims = (row: string) => judged.filter((one) => one.row === row)

test('the rows are those of the issue', (t) => {
  const targets = rows.flatMap(({ id, claims: all }) =>
    all.flatMap((claim) => {
      const limit = claim.kind === 'factor' ? claim.atMost : claim.atLeast
      return limit === undefined ? [] : [`${id} ${claim.kind} ${limit}`]
    }),
  )
  const attention = [1, 16].flatMap((batch) => [
    `attention/row/forward/${batch} speedup 1.5`,
    `attention/row/backward/${batch} speedup 1.3`,
    `attention/column/forward/${batch} speedup 3`,
    `attention/column/backward/${batch} speedup 2`,
    `attention/conv/forward/${batch} speedup 1.5`,
    `attention/conv/backward/${batch} speedup 1.3`,
  ])
  t.deepEqual(targets, [
    ...attention,
    'decode/1 bandwidth 0.75',
    'decode/1 speedup 1.5',
    'decode/60 factor 1.35',
    'decode/60 speedup 1.5',
    'train speedup 1.1',
    'vqgan/1 speedup 1.2',
    'vqgan/60 speedup 1.2',
    'codebook speedup 4',
  ])
})

test('a speedup is the peer by us; without a target nothing is reached', (t) => {
  const [flex, sdpa] = claims('attention/row/forward/16')
  t.like(flex, { value: 2, reached: true })
  t.like(sdpa, { value: 10, reached: null })
})

test('the best of several peers counts', (t) => {
  const [, torch] = claims('decode/1')
  t.is(torch!.peer!.by, PEERS.compiled)
  t.is(torch!.value, 8.4 / 6)
  t.is(torch!.reached, false)
})

test('bandwidth is that of the weights over that of a copy, which reads and writes', (t) => {
  const [bandwidth] = claims('decode/1')
  t.is(bandwidth!.value, drawTokenBytes(settings.decode.config) / 6 / (16e9 / 4))
  t.is(bandwidth!.reached, true)
  const [without] = judgeRows(rows, [took('decode/1', 6)]).filter(({ row }) => row === 'decode/1')
  t.like(without, { value: null, reached: null, missing: 'no time of a copy' })
})

test('a factor is our time over that of another row', (t) => {
  const [factor] = claims('decode/60')
  t.is(factor!.value, 8.4 / 6)
  t.is(factor!.reached, false)
  const [less] = judgeRows(rows, [...entries, took('decode/60', 8)]).filter(({ row }) => row === 'decode/60')
  t.is(less!.reached, true)
})

test('what is missing is said, with the reason nearest to it', (t) => {
  t.is(claims('decode/60')[1]!.missing, 'no PyTorch: OutOfMemoryError: too much\nand more')
  t.is(claims('vqgan/1')[0]!.missing, 'no PyTorch: exit code 3')
  t.is(claims('train')[0]!.missing, 'not measured')
  const all = judgeRows(rows, [took('codebook', 1), { row: '*', by: PEERS.torch, failed: 'there is none' }])
  t.is(all.find(({ row }) => row === 'codebook')!.missing, `no ${PEERS.cdist}: there is none`)
  const ours = judgeRows(rows, [{ row: 'train', by: 'ernie-vilg', failed: 'it broke' }])
  t.is(ours.find(({ row }) => row === 'train')!.missing, 'it broke')
})

test('a peer that is ourselves is not excused by others', (t) => {
  const again = judgeRows(rows, [took('matmul', 1), { row: '*', by: PEERS.torch, failed: 'there is none' }])
  const own = again.find(({ claim }) => claim.kind === 'speedup' && claim.over.includes(WITHOUT_LIBRARY))
  t.is(own!.missing, `no ${WITHOUT_LIBRARY}`)
})

test('the last word on a row counts', (t) => {
  const [flex] = judgeRows(rows, [...entries, took('attention/row/forward/16', 0.1)]).filter(
    ({ row }) => row === 'attention/row/forward/16',
  )
  t.is(flex!.value, 4)
  const failed = (reason: string) => ({ row: 'train', by: 'ernie-vilg', failed: reason })
  const [train] = judgeRows(rows, [failed('first'), failed('last')]).filter(({ row }) => row === 'train')
  t.is(train!.missing, 'last')
})

test('the table', (t) => {
  const cells = tableRows(rows, judged)
  const of = (title: RegExp) => cells.find(([work]) => title.test(work!))
  t.deepEqual(of(/^row attention forward.*batch 16/), [
    'row attention forward, 64 heads of 64, N = 1152, batch 16',
    '200 us',
    '2.00 x as fast as FlexAttention (400 us)',
    '>= 1.5 x as fast',
    'yes',
  ])
  t.deepEqual(of(/^copy/), [
    'copy 8 GB of memory',
    '4.00 ms, 4.00 TB/s',
    '1.00 x as fast as PyTorch (4.00 ms)',
    '',
    '',
  ])
  t.deepEqual(of(/^decode step.*60/)!.slice(1), [
    '8.40 ms',
    '1.40 x the time of 1 candidate',
    '<= 1.35 x its time',
    'no',
  ])
  t.deepEqual(cells[cells.findIndex(([work]) => /^decode step.*60/.test(work!)) + 1], [
    '',
    '',
    'no PyTorch: OutOfMemoryError: too much',
    '>= 1.5 x as fast',
    '?',
  ])
  t.regex(of(/^decode step.* 1 cand/)![2]!, /^\d\d % of what a copy moves, reading 19\.\d GB$/)
  t.deepEqual(of(/^training/)!.slice(1), ['-', 'not measured', '>= 1.1 x as fast', '?'])
  // rows of nothing but a missing comparison that nothing is to be reached by
  t.is(cells.filter(([work]) => work === '').length, 3)
})

test("the README's table has only what is to be reached, each with its title", (t) => {
  const cells = targetRows(rows, judged)
  t.true(cells.slice(1).every(([work, , , target]) => work !== '' && target !== ''))
  t.is(cells.length, 1 + 12 + 4 + 1 + 2 + 1)
})

test('long reasons are cut, checks are a line each', (t) => {
  const [row] = tableRows(
    rows,
    judgeRows(rows, [{ row: 'train', by: 'ernie-vilg', failed: 'x'.repeat(500) }]),
  ).filter(([work]) => work!.startsWith('training'))
  t.is(row![2], `${'x'.repeat(80)}...`)
  t.deepEqual(
    checkLines([
      { check: 'a', ok: true, detail: 'b' },
      { check: 'c', ok: false, detail: 'd' },
    ]),
    ['ok   a: b', 'FAIL c: d'],
  )
})
