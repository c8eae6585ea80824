import test from 'ava'

import { measured, parseEntry, parseObject } from '../../../bench/gpu/records.ts'
import { resultFile } from '../../../bench/gpu/result.ts'
import { makeSettings } from '../../../bench/gpu/settings.ts'
import { kernelTimes } from '../../../bench/gpu/kernel-times.ts'

test('lines that are entries, and others', (t) => {
  const entry = measured('copy', 'us', [3, 1, 2], 'device', { bytes: 4 })
  t.deepEqual(entry, {
    row: 'copy',
    by: 'us',
    median: 2,
    p25: 1.5,
    p75: 2.5,
    samples: 3,
    clock: 'device',
    details: { bytes: 4 },
  })
  const failed = { row: 'copy', by: 'us', failed: 'why' }
  const check = { check: 'name', ok: true, detail: 'fine' }
  for (const one of [entry, failed, check]) t.deepEqual(parseEntry(JSON.stringify(one)), one)
  for (const line of [
    '',
    'a message',
    '{not JSON}',
    '{"ready": "decode"}',
    '{"row": "a", "by": "b"}',
    '{"row": "a", "by": "b", "median": "1"}',
    '{"check": "a", "ok": 1, "detail": "b"}',
  ]) {
    t.is(parseEntry(line), undefined, line)
  }
  t.deepEqual(parseObject('{"ready": "decode"}'), { ready: 'decode' })
})

test('a time that is none is refused', (t) => {
  t.throws(() => measured('copy', 'us', [], 'wall'), { instanceOf: RangeError })
  t.throws(() => measured('copy', 'us', [NaN], 'wall'), { instanceOf: RangeError })
})

test('names of result files', (t) => {
  t.is(resultFile('NVIDIA H200'), 'nvidia-h200.json')
  t.is(resultFile(' NVIDIA GeForce RTX 4090 (Ti)'), 'nvidia-geforce-rtx-4090-ti.json')
  t.is(resultFile('???'), 'gpu.json')
})

test('settings are copies, quick ones differ in the number of samples alone', (t) => {
  const [one, two] = [makeSettings({}), makeSettings({ quick: true })]
  one.ceilings.copyBytes = 1
  t.is(makeSettings({}).ceilings.copyBytes, 8e9)
  t.true(two.samples.kernel < one.samples.kernel && two.samples.call < one.samples.call)
  t.deepEqual({ ...two, samples: 0 }, { ...makeSettings({}), samples: 0 })
  t.true(makeSettings({ tiny: true }).decode.config.hidden < 1000)
})

test('the first third of the timings warms up', async (t) => {
  const { times, result } = await kernelTimes(4, async (timings) => {
    timings.forEach((_, i) => (timings[i] = i))
    return timings.length
  })
  t.deepEqual(times, [2, 3, 4, 5])
  t.is(result, 6)
})
