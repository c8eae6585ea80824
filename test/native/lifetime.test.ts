import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import test from 'ava'
import { VilgError } from '../../lib/errors.ts'
import { Lifetime } from '../../lib/native/lifetime.ts'

const owner = {}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)))
}

test('dispose ends what runs, waits for it, then releases; once', async (t) => {
  const life = new Lifetime('Thing', owner)
  const order: string[] = []
  const running = life.run(untilAborted).catch((error: unknown) => (order.push('rejected'), error))
  t.true(life.busy)
  const first = life.dispose(() => void order.push('released'))
  t.true(life.disposed)
  t.is(
    life.dispose(() => void order.push('again')),
    first,
  )
  await first
  t.deepEqual(order, ['rejected', 'released'])
  t.is(((await running) as VilgError).code, 'ERR_VILG_DISPOSED')
  t.false(life.busy)
  t.throws(() => life.check(), { code: 'ERR_VILG_DISPOSED' })
  await t.throwsAsync(
    life.run(() => Promise.resolve(1)),
    { code: 'ERR_VILG_DISPOSED' },
  )
})

test('dispose waits for work that does not look at its signal', async (t) => {
  const life = new Lifetime('Thing', owner)
  let finish!: () => void
  const work = life.run(() => new Promise<void>((resolve) => (finish = resolve)))
  let released = false
  const disposal = life.dispose(() => void (released = true))
  await new Promise((resolve) => setImmediate(resolve))
  t.false(released)
  finish()
  await work
  await disposal
  t.true(released)
})

test('the signal of a caller passes through with its reason', async (t) => {
  const life = new Lifetime('Thing', owner)
  const controller = new AbortController()
  const running = life.run(untilAborted, controller.signal)
  const reason = new Error('enough')
  controller.abort(reason)
  t.is(await t.throwsAsync(running), reason)
  t.is(await t.throwsAsync(life.run(() => Promise.resolve(1), controller.signal)), reason)
  t.is(await life.run(() => Promise.resolve(2)), 2)
  await life.dispose(() => {})
})

test('work that throws at once leaves nothing behind', async (t) => {
  const life = new Lifetime('Thing', owner)
  await t.throwsAsync(
    life.run(() => {
      throw new Error('at once')
    }),
    { message: 'at once' },
  )
  t.false(life.busy)
  await life.dispose(() => {})
})

test('children go first', async (t) => {
  const parent = new Lifetime('Parent', owner)
  const order: string[] = []
  const child = { dispose: () => void order.push('child') }
  const gone = { dispose: () => void order.push('gone') }
  parent.adopt(child)
  parent.adopt(gone)()
  await parent.dispose(() => void order.push('parent'))
  t.deepEqual(order, ['child', 'parent'])
  t.throws(() => parent.adopt(child), { code: 'ERR_VILG_DISPOSED' })
})

test('disposing again from within a listener of the abort', async (t) => {
  const life = new Lifetime('Thing', owner)
  let released = 0
  const work = life.run(async (signal) => {
    signal.addEventListener('abort', () => void life.dispose(() => void released++))
    await untilAborted(signal)
  })
  await Promise.allSettled([life.dispose(() => void released++), work])
  t.is(released, 1)
})

test('an object that was collected without dispose() causes a warning, a disposed one does not', async (t) => {
  const code = `
    const { Lifetime } = await import('./lib/native/lifetime.ts')
    process.on('warning', (warning) => console.log(warning.code, warning.message.includes('Leaky')))
    for (let i = 0; i < 3; i++) new Lifetime('Leaky', {})
    for (let i = 0; i < 3; i++) { const o = {}; await new Lifetime('Clean', o).dispose(() => {}) }
    for (let i = 0; i < 20; i++) { gc(); await new Promise((r) => setTimeout(r, 5)) }
  `
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--expose-gc', '--no-warnings', '--import=tsx', '--input-type=module', '-e', code],
    { timeout: 60_000 },
  )
  t.is(stdout, 'VILG_LEAK true\n'.repeat(3))
})
