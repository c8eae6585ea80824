import test from 'ava'
import { Generator, memoryUse, setThreads } from '../lib/index.ts'

const config = {
  layers: 1,
  hidden: 32,
  heads: 1,
  textVocab: 9,
  imageVocab: 7,
  textLength: 3,
  grid: 2,
  kernel: 1,
}

test('memory in use is that of the models, and its peak is kept until it is reset', async (t) => {
  const before = memoryUse({ device: 'cpu', resetPeak: true })
  const generator = await Generator.create(config, { device: 'cpu' })
  const bytes = 4 * generator.parameterCount
  const { inUse } = memoryUse({ device: 'cpu' })
  // blocks have sizes of four to a power of two, of 64 bytes at least
  t.true(inUse - before.inUse >= bytes && inUse - before.inUse < 4 * bytes, `${inUse - before.inUse}`)
  await generator.dispose()
  const after = memoryUse({ device: 'cpu', resetPeak: true })
  t.is(after.inUse, before.inUse)
  t.true(after.peak >= inUse)
  t.is(memoryUse({ device: 'cpu' }).peak, after.inUse)
})

test('bad arguments', (t) => {
  const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
  t.throws(() => memoryUse({ device: 'gpu' as never }), invalid)
  t.throws(() => memoryUse({ resetPeak: 1 as never }), invalid)
  t.throws(() => memoryUse({ peak: true } as never), invalid)
  t.throws(() => memoryUse({ device: 'cuda' }), { code: 'ERR_VILG_UNSUPPORTED' })
  t.throws(() => setThreads(0), invalid)
})
