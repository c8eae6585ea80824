import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { VilgError } from '../../lib/errors.ts'
import { native, stopped } from '../../lib/native/binding.ts'
import { callNative } from '../../lib/native/call.ts'

const require = createRequire(import.meta.url)
const addon = (require('node-gyp-build') as { resolve: (folder: string) => string }).resolve(process.cwd())

const run = { backend: 'cpu', precision: 'float32', threads: 1, timings: 1 } as const
const square = (size: number, timings = 1): Parameters<ReturnType<typeof native>['matmul']>[2] => ({
  ...run,
  timings,
  m: size,
  n: size,
  k: size,
  batch: 1,
  transA: false,
  transB: false,
  alpha: 1,
  gelu: false,
})
const ones = new Float32Array(64 * 64).fill(1)
// far longer than any test may take, unless it is stopped
const endless = square(64, 1_000_000)

// JavaScript for processes and workers that load nothing but the addon.
const prelude = `
  const addon = require(${JSON.stringify(addon)})
  const ones = new Float32Array(64 * 64).fill(1)
  const endless = ${JSON.stringify(endless)}
  const once = ${JSON.stringify(square(64))}
`

async function runNode(code: string): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, ['-e', prelude + code], { timeout: 60_000 })
}

test('an aborted signal stops a kernel and rejects with its reason', async (t) => {
  const reason = { any: 'value' }
  const controller = new AbortController()
  const start = Date.now()
  const promise = callNative({ signal: controller.signal }, (control) =>
    native().matmul(ones, ones, endless, control),
  )
  setTimeout(() => controller.abort(reason), 30)
  t.is((await promise.catch((error: unknown) => error)) as unknown, reason)
  t.true(Date.now() - start < 20_000)
})

test('a signal that was aborted before starts nothing', async (t) => {
  const signal = AbortSignal.abort()
  const error: unknown = await callNative({ signal }, () => Promise.reject(new Error('started'))).catch(
    (e: unknown) => e,
  )
  t.is(error, signal.reason as unknown)
})

test('an abort during a call rejects it, although the work was done before it noticed', async (t) => {
  const controller = new AbortController()
  const promise = callNative({ signal: controller.signal }, () => Promise.resolve(1))
  controller.abort('late')
  t.is(await promise.catch((error: unknown) => error), 'late')
})

test('no listener stays on the signal', async (t) => {
  const { signal } = new AbortController()
  let listeners = 0
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: [never, never]) => (listeners++, addEventListener.apply(signal, args))
  signal.removeEventListener = (...args: [never, never]) => (
    listeners--,
    removeEventListener.apply(signal, args)
  )
  await callNative({ signal }, (control) => native().matmul(ones, ones, square(64), control))
  await t.throwsAsync(callNative({ signal }, () => Promise.reject(new Error('failed'))))
  t.is(listeners, 0)
})

test('what is not a signal is refused', async (t) => {
  for (const signal of [null, {}, 'signal', 1, new AbortController()]) {
    const options = { signal: signal as AbortSignal }
    await t.throwsAsync(
      callNative(options, () => Promise.resolve(1)),
      { instanceOf: TypeError, code: 'ERR_VILG_INVALID_ARGUMENT' },
    )
  }
})

test('without the wrapper, a raised flag rejects with the marker', async (t) => {
  const stop = new (native().StopFlag)()
  const promise = native().matmul(ones, ones, endless, { stop })
  stop.raise()
  t.is(await promise.catch((error: unknown) => error), stopped)
  // a raised flag stays raised
  t.is(
    await native()
      .matmul(ones, ones, square(64), { stop })
      .catch((error: unknown) => error),
    stopped,
  )
})

test('disposing a flag or dropping everything while a task runs changes nothing for the task', async (t) => {
  const stop = new (native().StopFlag)()
  const promise = native().matmul(ones, ones, square(64, 2000), { stop })
  stop.dispose()
  t.is((await promise).out[0], 64)
})

test('errors carry code, message, source and the stack of the caller', async (t) => {
  async function theCaller(): Promise<unknown> {
    return callNative({}, (control) => native().openSafetensors('/no/such/file', control))
  }
  const error = (await t.throwsAsync(theCaller())) as VilgError
  t.true(error instanceof VilgError)
  t.is(error.code, 'ERR_VILG_IO')
  t.regex(error.message, /Cannot open \/no\/such\/file: No such file/)
  t.is(error.details?.['path'], '/no/such/file')
  t.regex(error.stack ?? '', /theCaller/)
  t.true(error.stack?.startsWith(`VilgError: ${error.message}`))
})

test('progress comes in order and reaches the end', async (t) => {
  const seen: [number, number][] = []
  await callNative({ onProgress: (...event) => seen.push(event) }, (control) =>
    native().matmul(ones, ones, square(64, 50), control),
  )
  t.true(seen.length >= 1)
  t.deepEqual(seen.at(-1), [50, 50])
  t.true(seen.every(([done, total], i) => total === 50 && done > (seen[i - 1]?.[0] ?? 0)))
})

test('what a progress callback throws ends the task and rejects it, whatever it is', async (t) => {
  for (const mine of [new Error('mine'), 'a string', 7, { code: 1 }]) {
    const onProgress = (): never => {
      throw mine
    }
    const promise = callNative({ onProgress }, (control) => native().matmul(ones, ones, endless, control))
    t.is((await promise.catch((error: unknown) => error)) as unknown, mine)
  }
})

test('many tasks at once, on threads of their own: files stay quick', async (t) => {
  const stop = new (native().StopFlag)()
  const tasks = Array.from({ length: 8 }, () =>
    native()
      .matmul(ones, ones, endless, { stop })
      .catch((e: unknown) => e),
  )
  // libuv has four threads; were the tasks there, this read would wait for them
  await promisify(execFile)(process.execPath, ['-e', '0'])
  const { readFile } = await import('node:fs/promises')
  t.truthy(await readFile('package.json'))
  stop.raise()
  t.deepEqual(await Promise.all(tasks), Array(8).fill(stopped))
})

test('a process does not end before its task, and ends after it', async (t) => {
  const { stdout } = await runNode(`addon.matmul(ones, ones, once).then((r) => console.log(r.out[0]))`)
  t.is(stdout, '64\n')
})

test('process.exit in the middle of running tasks', async (t) => {
  for (let i = 0; i < 3; i++) {
    const { stdout, stderr } = await runNode(`
      for (let i = 0; i < 4; i++) addon.matmul(ones, ones, endless).then(() => console.log('done'), console.log)
      setTimeout(() => { console.log('exiting'); process.exit(0) }, ${i * 20})
    `)
    t.is(stdout, 'exiting\n')
    t.is(stderr, '')
  }
})

test('an uncaught error in the middle of running tasks ends the process as usual', async (t) => {
  const error = (await t.throwsAsync(
    runNode(`addon.matmul(ones, ones, endless); setTimeout(() => { throw new Error('mine') }, 10)`),
  )) as Error & { code: number }
  t.is(error.code, 1)
})

test('errors before initialize() are still errors with a code', async (t) => {
  const { stdout } = await runNode(`
    try { addon.setThreads(0) } catch (error) { console.log(error instanceof Error, error.code) }
    addon.openSafetensors('/none').catch((error) => console.log(error instanceof Error, error.code))
  `)
  t.is(stdout, 'true ERR_VILG_INVALID_ARGUMENT\ntrue ERR_VILG_IO\n')
})

test('the module loads twice into one environment, each with its own state', async (t) => {
  const { stdout } = await runNode(`
    const path = require.resolve(${JSON.stringify(addon)})
    delete require.cache[path]
    const again = require(path)
    class A extends Error {}
    class B extends Error {}
    addon.initialize(A, {})
    again.initialize(B, {})
    const thrown = (call) => { try { call() } catch (error) { return error } }
    console.log(again !== addon, thrown(() => addon.setThreads(0)) instanceof A, thrown(() => again.setThreads(0)) instanceof B)
    Promise.all([addon, again].map((one) => one.matmul(ones, ones, once))).then((all) => console.log(all.map((r) => r.out[0])))
  `)
  t.is(stdout, 'true true true\n[ 64, 64 ]\n')
})

test('worker threads compute, each with a module of its own', async (t) => {
  const code = `${prelude}
    const { parentPort } = require('node:worker_threads')
    addon.matmul(ones, ones, once).then((r) => parentPort.postMessage(r.out[0]))
  `
  const results = await Promise.all(
    Array.from(
      { length: 4 },
      () =>
        new Promise((resolve, reject) => {
          const worker = new Worker(code, { eval: true })
          worker.once('error', reject)
          worker.once('message', resolve)
        }),
    ),
  )
  t.deepEqual(results, [64, 64, 64, 64])
})

test('workers terminated in the middle of tasks, again and again', async (t) => {
  const code = `${prelude}
    for (let i = 0; i < 4; i++) addon.matmul(ones, ones, endless, { onProgress() {} })
    for (let i = 0; i < 50; i++) addon.matmul(ones, ones, once)
    require('node:worker_threads').parentPort.postMessage('running')
  `
  for (let i = 0; i < 20; i++) {
    const worker = new Worker(code, { eval: true })
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    t.is(await worker.terminate(), 1)
  }
  // and the main thread is none the worse
  t.is((await native().matmul(ones, ones, square(64))).out[0], 64)
})
