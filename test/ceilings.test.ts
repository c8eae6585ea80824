import test from 'ava'
import { backendInfo, measureCeilings, setIsa } from '../lib/index.ts'

test.serial('ceilings are rates of this machine', async (t) => {
  const { isa, isas } = backendInfo()
  t.teardown(() => setIsa(isa))
  for (const one of isas) {
    setIsa(one)
    const ceilings = await measureCeilings({ threads: 1, milliseconds: 1 })
    // from a loaded emulator to the largest servers: a wrong unit or an empty loop lies outside
    t.true(ceilings.float32Flops > 1e7 && ceilings.float32Flops < 1e15, `${one}: ${ceilings.float32Flops}`)
    t.true(ceilings.readBytes > 1e6 && ceilings.readBytes < 1e14, `${one}: ${ceilings.readBytes}`)
    t.true(ceilings.sustainedReadBytes > 0 && ceilings.sustainedReadBytes <= ceilings.readBytes)
    t.is(ceilings.bfloat16Flops > 0, one.includes('bf16'), one)
    t.true(ceilings.bfloat16Flops < 1e15)
  }
})

test('bad options are refused', async (t) => {
  for (const [options, code] of [
    [{ thread: 1 }, 'ERR_VILG_INVALID_ARGUMENT'],
    [{ threads: 0 }, 'ERR_VILG_INVALID_ARGUMENT'],
    [{ threads: 1.5 }, 'ERR_VILG_INVALID_ARGUMENT'],
    [{ milliseconds: NaN }, 'ERR_VILG_INVALID_ARGUMENT'],
    [{ milliseconds: -1 }, 'ERR_VILG_INVALID_ARGUMENT'],
    [{ signal: {} }, 'ERR_VILG_INVALID_ARGUMENT'],
  ] as const) {
    await t.throwsAsync(measureCeilings(options as object), { code }, JSON.stringify(options))
  }
})

test('an aborted signal ends it', async (t) => {
  const reason = new Error('enough')
  await t.throwsAsync(measureCeilings({ signal: AbortSignal.abort(reason) }), { is: reason })
  const controller = new AbortController()
  const measuring = measureCeilings({ milliseconds: 60_000, threads: 1, signal: controller.signal })
  controller.abort(reason)
  await t.throwsAsync(measuring, { is: reason })
})
