// Our side of the rows, at tiny sizes on the emulated device: what is checked there is right, and every row gets its time.
import '../../cuda/emulated.ts'

import test from 'ava'

import { makeRows } from '../../../bench/gpu/rows.ts'
import { makeSettings } from '../../../bench/gpu/settings.ts'
import type { GpuTrial } from '../../../bench/gpu/trial.ts'
import { attention } from '../../../bench/gpu/trials/attention.ts'
import { copy, matmul } from '../../../bench/gpu/trials/ceilings.ts'
import { codebook } from '../../../bench/gpu/trials/codebook.ts'
import { decode } from '../../../bench/gpu/trials/decode.ts'
import { train } from '../../../bench/gpu/trials/train.ts'
import { vqgan } from '../../../bench/gpu/trials/vqgan.ts'

const settings = makeSettings({ tiny: true })
const rows = makeRows(settings).map(({ id }) => id)
const trials: Record<string, GpuTrial> = { copy, matmul, attention, decode, train, vqgan, codebook }

for (const [name, trial] of Object.entries(trials)) {
  test(name, async (t) => {
    const done: string[] = []
    await trial(settings, {
      async attempt(row, work) {
        const { times } = await work()
        t.true(times.length > 0 && times.every((time) => time > 0), row)
        done.push(row)
      },
      check: async (_, work) => work(),
    })
    t.deepEqual(
      done,
      rows.filter((row) => row.split('/')[0] === name),
    )
  })
}
