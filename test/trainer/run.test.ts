import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { interruptible } from '../../lib/trainer/interrupt.ts'
import { readLog } from '../../lib/trainer/run-log.ts'
import { type RunOptions, trainRun } from '../../lib/trainer/run.ts'
import type { GeneratorStep } from '../../lib/trainer/training-loop.ts'
import type { FakeTrainer } from './fake.ts'
import { fakeRun } from './fake-run.ts'
import { type ReadEvent, readEvents } from './tensorboard/read-events.ts'

async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-run-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

type Options = Partial<RunOptions<GeneratorStep, FakeTrainer>>

async function train(folder: string, options: Options = {}) {
  const { trainer, ...result } = await trainRun(folder, { ...fakeRun, ...options })
  const { weight, momentum } = trainer.native
  await trainer.dispose()
  return { ...result, weight, momentum }
}

/** The numbers of the log that do not depend on time. */
async function losses(folder: string): Promise<unknown[]> {
  const lines = await readLog(join(folder, 'log.jsonl'))
  return lines
    .filter(({ type }) => type === 'step' || type === 'evaluation')
    .map(({ type, step, loss, gradientNorm, learningRate }) => [type, step, loss, gradientNorm, learningRate])
}

/** All events of a run, file by file. */
async function readTensorBoard(folder: string): Promise<ReadEvent[]> {
  const names = (await readdir(join(folder, 'tensorboard'))).sort()
  const files = names.map(async (name) => readEvents(await readFile(join(folder, 'tensorboard', name))))
  return (await Promise.all(files)).flat()
}

test('a run leaves options, a log, curves, samples and the newest checkpoints', async (t) => {
  const folder = await tempFolder(t)
  const result = await train(folder, { keep: 2 })
  t.is(result.step, 20)
  t.true(result.finished)
  t.is(result.evaluation?.pairs, 2)
  t.deepEqual((await readdir(join(folder, 'checkpoints'))).sort(), ['16', '20'])
  t.deepEqual(
    (await readdir(folder)).sort(),
    [
      'checkpoints',
      'log.jsonl',
      'loss.png',
      'options.json',
      'samples-12.png',
      'samples-20.png',
      'samples-6.png',
      'samples-18.png',
      'tensorboard',
    ].sort(),
  )
  const log = await readLog(join(folder, 'log.jsonl'))
  t.deepEqual(
    log.filter(({ type }) => type === 'step').map(({ step }) => step),
    Array.from({ length: 20 }, (_, i) => i + 1),
  )
  t.deepEqual(
    log.filter(({ type }) => type === 'evaluation').map(({ step }) => step),
    [5, 10, 15, 20],
  )
  t.is((await readFile(join(folder, 'loss.png'))).toString('latin1', 1, 4), 'PNG')
  const events = await readTensorBoard(folder)
  const loss = (group: string) => events.map(({ scalars }) => scalars?.[`${group}/loss`])
  const logged = (type: string) => log.filter((line) => line.type === type).map((line) => line.loss as number)
  for (const [group, type] of [
    ['training', 'step'],
    ['held out', 'evaluation'],
  ] as const) {
    t.deepEqual(
      loss(group).filter((value) => value !== undefined),
      logged(type).map(Math.fround),
    )
  }
  const sheets = events.flatMap(({ step, images }) => (images?.samples === undefined ? [] : [step]))
  t.deepEqual(sheets, [6, 12, 18, 20])
  // once finished, nothing more is done
  const bytes = (await stat(join(folder, 'log.jsonl'))).size
  const again = await train(folder)
  t.is(again.weight, result.weight)
  t.is(again.evaluation?.loss, result.evaluation?.loss)
  t.is((await stat(join(folder, 'log.jsonl'))).size, bytes)
})

test('a run that was ended at any point goes on as if it had not been', async (t) => {
  const whole = await tempFolder(t)
  const expected = await train(whole)
  const folder = await tempFolder(t)
  // out of time at once: one step a call
  const first = await train(folder, { minutes: 0 })
  t.false(first.finished)
  t.is(first.step, 1)
  // aborted in step 7
  const controller = new AbortController()
  const reason = new Error('Ctrl-C')
  const abort: Options = {
    signal: controller.signal,
    batches: (start) => fakeRun.batches(start),
    evaluate: async (trainer) => {
      controller.abort(reason)
      return fakeRun.evaluate!(trainer)
    },
  }
  await t.throwsAsync(train(folder, abort), { is: reason })
  t.deepEqual((await readdir(join(folder, 'checkpoints'))).sort(), ['4', '5'])
  // an error in the middle: back to step 12
  let evaluations = 0
  const failure: Options = {
    evaluate: async (trainer) => {
      if (++evaluations === 2) throw new Error('from a callback')
      return fakeRun.evaluate!(trainer)
    },
  }
  await t.throwsAsync(train(folder, failure), { message: 'from a callback' })
  const result = await train(folder)
  t.is(result.weight, expected.weight)
  t.is(result.momentum, expected.momentum)
  t.deepEqual(await losses(folder), await losses(whole))
  const resumed = (await readLog(join(folder, 'log.jsonl'))).filter(({ type }) => type === 'resume')
  t.deepEqual(
    resumed.map(({ step }) => step),
    [1, 5, 12],
  )
  // each part of the run tells TensorBoard from which step on it counts
  const begun = (await readTensorBoard(folder)).filter(({ sessionStatus }) => sessionStatus === 1)
  t.deepEqual(
    begun.map(({ step }) => step),
    [1, 2, 6, 13],
  )
})

test('an abort between two steps ends the run with a checkpoint, too', async (t) => {
  const folder = await tempFolder(t)
  const controller = new AbortController()
  const reason = new Error('Ctrl-C')
  const seen: number[] = []
  const onLog: Options['onLog'] = ({ type, step }) => {
    if (type !== 'step') return
    seen.push(step)
    // while the first step's line is written to the log
    if (step === 1) setImmediate(() => controller.abort(reason))
  }
  const checkpointSteps = 1000
  await t.throwsAsync(train(folder, { signal: controller.signal, onLog, checkpointSteps }), { is: reason })
  t.deepEqual(await readdir(join(folder, 'checkpoints')), [String(seen.at(-1))])
  t.true(seen.length < 20)
})

test('partial checkpoints are removed, and an unfinished line of the log', async (t) => {
  const whole = await tempFolder(t)
  const expected = await train(whole)
  const folder = await tempFolder(t)
  await t.throwsAsync(
    train(folder, {
      evaluate: async (trainer) => {
        if (trainer.step === 10) throw new Error('killed')
        return fakeRun.evaluate!(trainer)
      },
    }),
  )
  const partial = join(folder, 'checkpoints', '.partial-12')
  await mkdir(partial)
  await writeFile(join(partial, 'trainer.json'), '{')
  await mkdir(join(folder, 'checkpoints', '.partial-old'))
  await writeFile(join(folder, 'log.jsonl'), '{"type":"step","st', { flag: 'a' })
  const result = await train(folder)
  t.is(result.weight, expected.weight)
  t.deepEqual(await losses(folder), await losses(whole))
  t.deepEqual((await readdir(join(folder, 'checkpoints'))).sort(), ['16', '20'])
})

test('a killed process goes on from its last checkpoint', async (t) => {
  const whole = await tempFolder(t)
  const expected = await train(whole)
  const folder = await tempFolder(t)
  const script = fileURLToPath(new URL('fake-run.ts', import.meta.url))
  for (let kill = 0; kill < 3; kill++) {
    const child = spawn(process.execPath, ['--import=tsx', script, folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const seen = 3 + 2 * kill
    let said = ''
    child.stdout.on('data', (text: Buffer) => {
      said += text.toString()
      if (said.split('step\n').length > seen) child.kill('SIGKILL')
    })
    const [, signal] = (await once(child, 'close')) as [number, string]
    t.is(signal, 'SIGKILL')
    // what was reported is there
    const reported = [...said.matchAll(/checkpoint (\d+)/g)].map(([, step]) => Number(step))
    const there = (await readdir(join(folder, 'checkpoints'))).map(Number).filter((step) => step >= 0)
    t.true(Math.max(0, ...there) >= (reported.at(-1) ?? 0), said)
  }
  const result = await train(folder)
  t.is(result.weight, expected.weight)
  t.is(result.momentum, expected.momentum)
  t.deepEqual(await losses(folder), await losses(whole))
})

test('other options in the same folder are refused', async (t) => {
  const folder = await tempFolder(t)
  await train(folder, { minutes: 0 })
  const error = await t.throwsAsync(train(folder, { settings: { learning: { rate: 0.2 }, more: true } }), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
  })
  t.true(error.message.includes('learning.rate was 0.1, is 0.2'))
  t.true(error.message.includes('more was not given, is true'))
  await t.throwsAsync(train(folder, { steps: 30 }), { message: /steps was 20, is 30/ })
})

test('divergence names the checkpoint that is left', async (t) => {
  const folder = await tempFolder(t)
  const options: Options = {
    evaluate: async (trainer) => {
      if (trainer.step === 10) trainer.native.gradientScale = NaN
      return fakeRun.evaluate!(trainer)
    },
  }
  const error = await t.throwsAsync(train(folder, options), { code: 'ERR_VILG_DIVERGED' })
  t.true(error.message.includes('step 11'))
  t.true(error.message.includes(join(folder, 'checkpoints', '8')))
})

test('data that ends too early is an error', async (t) => {
  const folder = await tempFolder(t)
  const batches: Options['batches'] = async function* (start) {
    let left = 7
    for await (const batch of fakeRun.batches(start))
      if (left-- > 0) yield batch
      else return
  }
  await t.throwsAsync(train(folder, { batches }), { message: /batches for 20 steps, received those of 7/ })
})

test('progress is a bar on a terminal and lines elsewhere', async (t) => {
  const shown = async (isTTY: boolean, options: Options = {}) => {
    const stream = Object.assign(new PassThrough(), { isTTY, columns: 120, cursorTo() {}, clearLine() {} })
    let text = ''
    stream.on('data', (part: Buffer) => (text += part.toString()))
    await train(await tempFolder(t), { progress: stream, title: 'fake', ...options })
    return text
  }
  const lines = await shown(false)
  t.regex(
    lines,
    /^fake: step 1\/20 \(5\.0 %\) loss [\d.]+ \(textToImage [\d.]+, imageToText [\d.]+\), learning rate/,
  )
  t.regex(lines, /fake: step 5, held out: loss [\d.]+/)
  t.regex(lines, /fake: step 20\/20 \(100\.0 %\)/)
  t.regex(lines, /checkpoint .*checkpoints.20\n/)
  t.regex(await shown(true), /fake .*100%.* 20\/20 loss/)
  t.false(lines.includes('of peak'))
  t.regex(await shown(false, { peakFlops: 1e6 }), /[\d.]+ (k |M )?tokens\/s, \d+ % of peak, .* left\n/)
})

test('bad arguments', async (t) => {
  const folder = await tempFolder(t)
  const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
  await t.throwsAsync(train(3 as never), invalid)
  for (const bad of [
    { step: 3 },
    { steps: 0 },
    { keep: 0 },
    { evaluateEvery: 0 },
    { checkpointMinutes: -1 },
    { minutes: NaN },
    { signal: 1 },
    { title: 1 },
    { peakFlops: 0 },
  ]) {
    await t.throwsAsync(train(folder, bad as never), invalid)
  }
  t.deepEqual(await readdir(folder), [])
})

test.serial('the first interrupt aborts, and its listeners go', async (t) => {
  const before = process.listenerCount('SIGINT')
  const reason = await interruptible(async (signal) => {
    process.emit('SIGINT', 'SIGINT')
    return signal.reason as Error
  })
  t.is(reason.message, 'Interrupted by SIGINT')
  t.is(process.listenerCount('SIGINT'), before)
})

test('batches with a state get that of the checkpoint back; without it, a run does not go on', async (t) => {
  const folder = await tempFolder(t)
  const received: unknown[] = []
  const batches: Options['batches'] = (start, state) => {
    received.push([start, state])
    let given = start
    return {
      state: () => ({ given }),
      async *[Symbol.asyncIterator]() {
        for await (const batch of fakeRun.batches(start)) {
          given++
          yield batch
        }
      },
    }
  }
  const data = { dataKeys: ['data'], settings: { data: 'a' }, batches }
  await train(folder, { ...data, minutes: 0 })
  await train(folder, { ...data, minutes: 0 })
  t.deepEqual(received, [
    [0, undefined],
    [1, { given: 1 }],
  ])
  const other = { ...data, settings: { data: 'b' }, minutes: 0 }
  await t.throwsAsync(train(folder, other), { message: /data was "a", is "b".*changeData/ })
  await t.throwsAsync(train(folder, { ...other, settings: { data: 'b', more: 1 }, changeData: true }), {
    message: /more was not given/,
  })
  await train(folder, { ...other, changeData: true })
  await train(folder, other)
  t.deepEqual(received.slice(2), [
    [2, undefined],
    [3, { given: 3 }],
  ])
  await rm(join(folder, 'checkpoints', '4', 'data.json'))
  await t.throwsAsync(train(folder, other), {
    code: 'ERR_VILG_CHECKPOINT_FORMAT',
    message: /state of the data/,
  })
})
