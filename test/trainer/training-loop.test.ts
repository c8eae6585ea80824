import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { readCheckpoint } from '../../lib/trainer/checkpoint.ts'
import { collect, fakeBatch, fakeBatches, FakeTrainer, textLength } from './fake.ts'

async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-trainer-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

test('steps are reported with all that belongs to them', async (t) => {
  await using trainer = new FakeTrainer({ learningRate: 0.1, warmupSteps: 2 })
  const steps = await collect(trainer.fit(fakeBatches(), { steps: 3 }))
  t.deepEqual(
    steps.map(({ step, learningRate }) => [step, learningRate]),
    [
      [1, 0.05],
      [2, 0.1],
      [3, 0.1],
    ],
  )
  for (const {
    loss,
    textToImage,
    imageToText,
    gradientNorm,
    tokensPerSecond,
    pairsPerSecond,
    flopsPerSecond,
    seconds,
  } of steps) {
    t.true(Math.abs(loss - (textToImage + imageToText)) < 1e-12)
    t.true(gradientNorm > 0 && seconds > 0)
    // two pairs, two directions of 4 + 1 + 4 tokens
    t.true(Math.abs(tokensPerSecond / pairsPerSecond - 18) < 1e-9)
    // and a model of one weight
    t.true(Math.abs(flopsPerSecond / tokensPerSecond - 6) < 1e-9)
  }
  t.is(trainer.step, 3)
})

test('data that ends ends the training, and its iterator is closed', async (t) => {
  await using trainer = new FakeTrainer({ accumulate: 2 })
  let closed = 0
  async function* five() {
    try {
      for (let number = 0; number < 5; number++) yield fakeBatch(number)
    } finally {
      closed++
    }
  }
  t.is((await collect(trainer.fit(five()))).length, 2) // the fifth batch is half a step
  t.is(closed, 1)
  t.is((await collect(trainer.fit(five(), { steps: 1 }))).length, 1)
  t.is(closed, 2)
  for await (const _ of trainer.fit(five())) break
  t.is(closed, 3)
  t.is(trainer.step, 4)
})

test('micro-batches of unequal sizes count as one batch', async (t) => {
  await using whole = new FakeTrainer({ learningRate: 0.1 })
  await using parts = new FakeTrainer({ learningRate: 0.1, accumulate: 2 })
  const batch = fakeBatch(3, 5)
  const cut = (from: number, to: number) => ({
    text: batch.text.subarray(from * textLength, to * textLength),
    textValid: batch.textValid.subarray(from * textLength, to * textLength),
    image: batch.image.subarray(from * 4, to * 4),
  })
  const stream = async function* (...batches: (typeof batch)[]) {
    yield* batches
  }
  const [one] = await collect(whole.fit(stream(batch)))
  const [two] = await collect(parts.fit(stream(cut(0, 1), cut(1, 5))))
  // the gradient is linear in the losses' means, the losses are not in this model
  t.true(Math.abs(one!.gradientNorm - two!.gradientNorm) < 1e-12)
  t.true(Math.abs(whole.native.weight - parts.native.weight) < 1e-12)
  t.deepEqual(parts.native.calls, ['accumulate', 'accumulate', 'apply'])
})

test('a step is dropped whole when it is aborted', async (t) => {
  await using trainer = new FakeTrainer({ accumulate: 3 })
  await collect(trainer.fit(fakeBatches(), { steps: 2 }))
  const before = trainer.native.weight
  const controller = new AbortController()
  const reason = new Error('enough')
  let calls = 0
  trainer.native.onAccumulate = () => void (++calls === 2 && controller.abort(reason))
  const error = await t.throwsAsync(collect(trainer.fit(fakeBatches(6), { signal: controller.signal })))
  t.is(error, reason)
  t.is(trainer.native.gradient, 0)
  t.is(trainer.native.weight, before)
  t.is(trainer.step, 2)
  trainer.native.onAccumulate = () => {}
  await collect(trainer.fit(fakeBatches(6), { steps: 1 }))

  await using other = new FakeTrainer({ accumulate: 3 })
  await collect(other.fit(fakeBatches(), { steps: 3 }))
  t.is(trainer.native.weight, other.native.weight)

  await t.throwsAsync(collect(trainer.fit(fakeBatches(), { signal: AbortSignal.abort(reason) })), {
    is: reason,
  })
  t.is(trainer.step, 3)
})

test('a loss or a gradient that is not finite ends the training and says where', async (t) => {
  const folder = await tempFolder(t)
  await using trainer = new FakeTrainer()
  const [first] = await collect(trainer.fit(fakeBatches(), { steps: 1 }))
  await trainer.save(join(folder, 'saved'))
  const { weight } = trainer.native
  trainer.native.onAccumulate = () => NaN
  const error = await t.throwsAsync(collect(trainer.fit(fakeBatches(1))), { code: 'ERR_VILG_DIVERGED' })
  t.true(error.message.includes('finite loss in step 2, received NaN'))
  t.true(error.message.includes(String(first!.loss)))
  t.true(error.message.includes(join(folder, 'saved')))
  t.is(trainer.native.gradient, 0)
  t.deepEqual(trainer.native.calls.filter((call) => call === 'apply').length, 1)

  trainer.native.onAccumulate = () => {}
  trainer.native.gradientScale = Infinity
  await t.throwsAsync(collect(trainer.fit(fakeBatches(1))), {
    message: /gradient norm in step 2, received Infinity/,
  })
  t.is(trainer.native.weight, weight)
  trainer.native.gradientScale = 1
  t.is((await collect(trainer.fit(fakeBatches(1), { steps: 1 })))[0]!.step, 2)
})

test('save replaces a checkpoint at once or not at all', async (t) => {
  const folder = await tempFolder(t)
  const path = join(folder, 'deep', 'checkpoint')
  await using trainer = new FakeTrainer({ learningRate: 0.01, schedule: 'cosine', totalSteps: 10 })
  await collect(trainer.fit(fakeBatches(), { steps: 1 }))
  await trainer.save(path)
  const { header, statePath } = await readCheckpoint(path)
  t.is(header.step, 1)
  t.is(header.kind, 'generator')
  t.deepEqual(header.options, JSON.parse(JSON.stringify(trainer.options)))

  await collect(trainer.fit(fakeBatches(1), { steps: 1 }))
  trainer.native.onSave = async (file) => {
    await writeFile(file, 'half')
    throw new Error('disk full')
  }
  await t.throwsAsync(trainer.save(path), { message: 'disk full' })
  t.deepEqual(await readCheckpoint(path), { header, statePath })
  t.deepEqual((await readdir(path)).length, 2)

  trainer.native.onSave = () => {}
  await trainer.save(path)
  const replaced = await readCheckpoint(path)
  t.is(replaced.header.step, 2)
  t.deepEqual((await readdir(path)).length, 2)

  const json = join(path, 'trainer.json')
  const good = await readFile(json, 'utf8')
  for (const [from, to, message] of [
    ['"version": 1', '"version": 2', /Expected version 1/],
    ['ernie-vilg-trainer', 'other', /format/],
    ['"state-', '"../state-', /state file/],
    ['"step": 2', '"step": -2', /number of steps/],
    ['{', '', /JSON/],
  ] as const) {
    await writeFile(json, good.replace(from, to))
    await t.throwsAsync(readCheckpoint(path), { code: 'ERR_VILG_CHECKPOINT_FORMAT', message })
  }
  await t.throwsAsync(readCheckpoint(folder), { code: 'ERR_VILG_IO', message: /no trainer.json/ })
  await t.throwsAsync(readCheckpoint(join(folder, 'nowhere')), { code: 'ERR_VILG_IO' })
})

test('calls wait for each other, and dispose ends them', async (t) => {
  const folder = await tempFolder(t)
  const trainer = new FakeTrainer()
  const begun = new Promise<void>((resolve) => (trainer.native.onAccumulate = resolve))
  const running = trainer.fit(fakeBatches(), { steps: 1 }).next()
  await begun
  await trainer.save(join(folder, 'c'))
  t.is((await readCheckpoint(join(folder, 'c'))).header.step, 1) // not 0: the step came first
  await running
  const evaluation = await trainer.evaluate(
    (async function* () {
      yield fakeBatch(0)
      yield fakeBatch(1, 3)
    })(),
  )
  t.is(evaluation.pairs, 5)
  t.true(Math.abs(evaluation.loss - evaluation.textToImage - evaluation.imageToText) < 1e-12)

  let release = () => {}
  trainer.native.onAccumulate = () => new Promise<void>((resolve) => (release = resolve))
  const stuck = trainer.fit(fakeBatches(), { steps: 1 }).next()
  await new Promise(setImmediate)
  const disposal = trainer.dispose()
  t.true(trainer.disposed)
  release()
  await t.throwsAsync(stuck, { code: 'ERR_VILG_DISPOSED' })
  await disposal
  t.true(trainer.native.disposed && trainer.targetDisposed)
  t.throws(() => trainer.step, { code: 'ERR_VILG_DISPOSED' })
  await t.throwsAsync(trainer.save(folder), { code: 'ERR_VILG_DISPOSED' })
  await t.throwsAsync(collect(trainer.fit(fakeBatches())), { code: 'ERR_VILG_DISPOSED' })
})

test('bad arguments', async (t) => {
  await using trainer = new FakeTrainer()
  const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
  const one = async function* (batch: unknown) {
    yield batch as never
  }
  await t.throwsAsync(collect(trainer.fit([] as never)), invalid)
  await t.throwsAsync(collect(trainer.fit(fakeBatches(), { step: 1 } as never)), invalid)
  await t.throwsAsync(collect(trainer.fit(fakeBatches(), { steps: -1 })), invalid)
  await t.throwsAsync(collect(trainer.fit(fakeBatches(), { signal: {} as never })), invalid)
  await t.throwsAsync(trainer.save(3 as never), invalid)
  await t.throwsAsync(trainer.evaluate(one(null)), invalid)
  await t.throwsAsync(trainer.evaluate((async function* () {})()), invalid)
  const good = fakeBatch(0)
  const shape = { code: 'ERR_VILG_SHAPE_MISMATCH' }
  await t.throwsAsync(collect(trainer.fit(one({ ...good, text: good.text.subarray(1) }))), shape)
  await t.throwsAsync(collect(trainer.fit(one({ ...good, text: new Int32Array(0) }))), shape)
  await t.throwsAsync(collect(trainer.fit(one({ ...good, image: good.image.subarray(1) }))), shape)
  await t.throwsAsync(collect(trainer.fit(one({ ...good, text: [...good.text] }))), invalid)
  t.deepEqual(trainer.native.calls, [])
})
