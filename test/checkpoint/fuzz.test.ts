import test from 'ava'
import { fuzz } from './fuzz/fuzz.ts'

// `npm run fuzz` goes through far more cases; here they tell whether it still does what it is for.

test('mutated files of every kind give tensors or an error of ours', async (t) => {
  const { counts, failures } = await fuzz(1_000_000, 1800)
  t.deepEqual(failures, [])
  for (const [kind, { read, refused }] of Object.entries(counts)) {
    const numRefused = Object.values(refused).reduce((sum, times) => sum + times, 0)
    t.is(read + numRefused, 200, kind)
    // mutations that only ever break the first byte, or nothing, find nothing
    t.true(read >= 2, `${kind}: only ${read} of 200 were read`)
    t.true(numRefused >= 40, `${kind}: only ${numRefused} of 200 were refused`)
  }
})
