// What measurements of a CUDA device go by.
import './emulated.ts'

import test from 'ava'
import { kernels } from '../../lib/index.ts'

test('a copy on the device is measured, twenty in a row for an entry', async (t) => {
  const timings = new Float64Array(4)
  const begin = performance.now()
  await kernels.copy(2 ** 24, { device: 'cuda', timings })
  const elapsed = performance.now() - begin
  t.true(timings.every((milliseconds) => milliseconds > 0))
  const all = 20 * timings.reduce((sum, milliseconds) => sum + milliseconds)
  t.true(elapsed >= all, `${elapsed} ms for runs of ${all} ms`)
})

test('a copy without timings', (t) => t.notThrowsAsync(kernels.copy(1000, { device: 'cuda' })))
