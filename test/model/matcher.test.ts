import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  backendInfo,
  Matcher,
  type MatcherConfig,
  setThreads,
  type TokenBatch,
  Trainer,
} from '../../lib/index.ts'
import { fitCalibration, scoreOf } from '../../lib/model/calibration.ts'
import { devices, randomBatch, refuses, temporaryFolder } from './helpers.ts'

const config: MatcherConfig = {
  layers: 2,
  hidden: 16,
  heads: 2,
  textVocab: 19,
  imageVocab: 23,
  textLength: 7,
  grid: 3,
  kernel: 3,
  dim: 8,
}

async function fresh(t: ExecutionContext, changes: Partial<MatcherConfig> = {}, options = {}) {
  const matcher = await Matcher.create({ ...config, ...changes }, { seed: 1, ...options })
  t.teardown(() => matcher.dispose())
  return matcher
}

/** Pairs whose text says what is in the picture: the first token of either is the pair's class. */
function classes(pairs: number, seed: number): TokenBatch {
  const batch = randomBatch(config, pairs, seed)
  for (let i = 0; i < pairs; i++) {
    batch.text[i * 7 + 1] = 2 + i
    batch.textValid[i * 7 + 1] = 1
    batch.image.fill(2 + i, i * 9, i * 9 + 6)
  }
  return batch
}

test('similarity is the cosine of the vectors, of every picture with every text', async (t) => {
  for (const device of devices) {
    const matcher = await fresh(t, {}, { device })
    const { text, textValid, image } = randomBatch(config, 4, 5)
    const images = await matcher.embedImage(image)
    const texts = await matcher.embedText({ text: text.slice(0, 21), textValid: textValid.slice(0, 21) })
    t.deepEqual([images.length, texts.length], [4 * 8, 3 * 8])
    const cosines = await matcher.similarity(image, {
      text: text.slice(0, 21),
      textValid: textValid.slice(0, 21),
    })
    t.is(cosines.length, 12)
    for (let i = 0; i < 4; i++) {
      for (let j = 0; j < 3; j++) {
        let sum = 0
        for (let d = 0; d < 8; d++) sum += images[i * 8 + d]! * texts[j * 8 + d]!
        t.true(Math.abs(cosines[i * 3 + j]! - sum) < 1e-6)
      }
    }
  }
})

test('the loss is InfoNCE of the cosines, slowly', async (t) => {
  const matcher = await fresh(t)
  const batch = randomBatch(config, 5, 6)
  const { loss, temperature, ...accuracies } = await matcher.compare(batch)
  t.true(Math.abs(temperature - 0.07) < 1e-8)
  const cosines = await matcher.similarity(batch.image, batch)
  let expected = 0
  const hits = { imageToTextAccuracy: 0, textToImageAccuracy: 0 }
  for (let i = 0; i < 5; i++) {
    const row = Array.from({ length: 5 }, (_, j) => cosines[i * 5 + j]!)
    const column = Array.from({ length: 5 }, (_, j) => cosines[j * 5 + i]!)
    for (const all of [row, column]) {
      const sum = all.reduce((total, cosine) => total + Math.exp(cosine / 0.07), 0)
      expected += (Math.log(sum) - all[i]! / 0.07) / 10
    }
    hits.imageToTextAccuracy += Number(row.every((cosine, j) => j === i || cosine < row[i]!)) / 5
    hits.textToImageAccuracy += Number(column.every((cosine, j) => j === i || cosine < column[i]!)) / 5
  }
  // cosines come as float32, 6e-8 each, over 0.07
  t.true(Math.abs(loss - expected) < 1e-5, `${loss} ${expected}`)
  t.deepEqual(accuracies, hits)
})

test('pairs with the same picture or caption are left out of each other’s comparison', async (t) => {
  const matcher = await fresh(t)
  const batch = randomBatch(config, 2, 7)
  t.true((await matcher.compare(batch)).loss > 0)
  const samePicture = {
    ...batch,
    image: Int32Array.from([...batch.image.slice(0, 9), ...batch.image.slice(0, 9)]),
  }
  t.is((await matcher.compare(samePicture)).loss, 0)
  // the same valid tokens; PAD may be anything
  const text = batch.text.slice()
  const textValid = batch.textValid.slice()
  text.copyWithin(7, 0, 7)
  textValid.copyWithin(7, 0, 7)
  text[13] = textValid[13] === 0 ? (text[13]! + 1) % 19 : text[13]!
  t.is((await matcher.compare({ ...batch, text, textValid })).loss, 0)
})

test.serial('any number of threads gives the same bits', async (t) => {
  const matcher = await fresh(t)
  const batch = randomBatch(config, 6, 8)
  const { threads } = backendInfo()
  const results = []
  for (const count of [1, 2, 3]) {
    setThreads(count)
    results.push([await matcher.compare(batch), await matcher.similarity(batch.image, batch)])
  }
  setThreads(threads)
  t.deepEqual(results[1], results[0])
  t.deepEqual(results[2], results[0])
})

test('saved and loaded it is the same, its calibration too', async (t) => {
  const matcher = await fresh(t)
  const folder = await temporaryFolder(t)
  const batch = classes(12, 3)
  await using trainer = new Trainer(matcher, { learningRate: 3e-3 })
  async function* data() {
    for (;;) yield batch
  }
  for await (const _ of trainer.fit(data(), { steps: 60 }));
  t.is(matcher.score(0), 0.5)
  const calibration = await matcher.calibrate(batch)
  t.deepEqual(matcher.config.calibration, calibration)
  t.true(Math.abs(matcher.score(calibration.midpoint) - 0.5) < 1e-12)
  const cosines = await matcher.similarity(batch.image, batch)
  // learnt by heart: what belongs together scores above one half, of the rest little
  const above = (i: number, j: number) => matcher.score(cosines[i * 12 + j]!) > 0.5
  const all = [...Array(12).keys()]
  t.true(all.every((i) => above(i, i)))
  const wrong = all.flatMap((i) => all.filter((j) => j !== i && above(i, j))).length
  t.true(wrong < 0.25 * 132, String(wrong))
  await matcher.save(folder)
  const text = await readFile(join(folder, 'config.json'), 'utf8')
  t.deepEqual(JSON.parse(text), { model: 'ernie-vilg-matcher', ...config, attention: 'sparse', calibration })
  await using loaded = await Matcher.load(folder)
  t.deepEqual(loaded.config, matcher.config)
  t.deepEqual(await loaded.similarity(batch.image, batch), cosines)
  t.is(loaded.parameterCount, matcher.parameterCount)
  await using half = await Matcher.load(folder, { precision: 'bfloat16' })
  const rounded = await half.similarity(batch.image, batch)
  // 8 bits of each weight and product; the two layers hardly add up to more than a few of them
  cosines.forEach((cosine, i) => t.true(Math.abs(rounded[i]! - cosine) < 0.1))

  await writeFile(join(folder, 'config.json'), text.replace('"dim": 8', '"dim": 9'))
  await refuses(t, Matcher.load(folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'image.projection.weight')
  await writeFile(join(folder, 'config.json'), text.replace('ernie-vilg-matcher', 'ernie-vilg-generator'))
  await refuses(t, Matcher.load(folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'ernie-vilg-matcher')
})

test('a calibration is where both kinds are as likely', (t) => {
  // two normal distributions of one width: the best boundary is half-way, the slope their distance by their variance
  const quantiles = Array.from({ length: 2000 }, (_, i) => probit((i + 0.5) / 2000))
  const matches = quantiles.map((z) => 0.6 + 0.1 * z)
  const others = quantiles.map((z) => 0.3 + 0.1 * z)
  const { midpoint, slope } = fitCalibration(matches, others)!
  t.true(Math.abs(midpoint - 0.45) < 1e-3, String(midpoint))
  // Platt's targets take off about one part in a thousand; the tails beyond the last quantile are missing
  t.true(Math.abs(slope - 30) < 0.6, String(slope))
  // ten times as many strangers change neither: each kind counts half
  const many = fitCalibration(matches, Array.from({ length: 10 }, () => others).flat())!
  t.true(Math.abs(many.midpoint - 0.45) < 2e-3 && Math.abs(many.slope - 30) < 0.6)
  // apart from each other, the slope stays finite
  const apart = fitCalibration([0.9, 0.95], [0.1, 0.2, 0.15])!
  t.true(apart.slope > 1 && apart.slope < 1e3 && apart.midpoint > 0.2 && apart.midpoint < 0.9)
  // hardly apart and few against many, 0.5 is still between the two
  const vague = fitCalibration(
    [0.1, 0.5, 0.3],
    Array.from({ length: 100 }, (_, i) => i / 100 - 0.25),
  )!
  t.true(vague.midpoint > 0.245 && vague.midpoint < 0.3, String(vague.midpoint))
  t.is(fitCalibration([0.1, 0.2], [0.3, 0.4]), undefined)
  t.is(fitCalibration([0.5, 0.5], [0.5, 0.5]), undefined)
  t.is(scoreOf(0.45, { midpoint: 0.45, slope: 3 }), 0.5)
})

/** The quantile of the normal distribution, by bisection of an integral. */
function probit(p: number): number {
  let [low, high] = [-6, 6]
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2
    if (normalBelow(middle) < p) low = middle
    else high = middle
  }
  return low
}

/** The share of a normal distribution below x: the series of Marsaglia (2004). */
function normalBelow(x: number): number {
  let sum = x
  let term = x
  for (let i = 3; Math.abs(term) > 1e-17; i += 2) {
    term *= (x * x) / i
    sum += term
  }
  return 0.5 + sum * Math.exp((-x * x) / 2 - Math.log(2 * Math.PI) / 2)
}

test('what does not fit is refused', async (t) => {
  for (const [changes, words] of [
    [{ dim: 0 }, 'dim'],
    [{ heads: 3 }, 'hidden'],
    [{ model: 'ernie-vilg-generator' as never }, 'model'],
    [{ calibration: { midpoint: 0, slope: 0 } }, 'slope'],
    [{ calibration: { midpoint: NaN, slope: 1 } }, 'midpoint'],
    [{ temperature: 1 } as never, 'temperature'],
  ] as [Partial<MatcherConfig>, string][]) {
    await refuses(t, Matcher.create({ ...config, ...changes }), 'ERR_VILG_INVALID_ARGUMENT', words)
  }
  const matcher = await fresh(t)
  const batch = randomBatch(config, 2, 1)
  const { text, textValid, image } = batch
  await refuses(t, matcher.embedImage(image.subarray(1)), 'ERR_VILG_SHAPE_MISMATCH', 'image')
  await refuses(t, matcher.embedImage(new Int32Array()), 'ERR_VILG_SHAPE_MISMATCH')
  await refuses(t, matcher.embedImage(image.map(() => 23)), 'ERR_VILG_INVALID_ARGUMENT', '22')
  await refuses(t, matcher.embedText({ text: text.subarray(1), textValid }), 'ERR_VILG_SHAPE_MISMATCH')
  await refuses(t, matcher.embedText(undefined as never), 'ERR_VILG_INVALID_ARGUMENT', 'textValid')
  await refuses(
    t,
    matcher.embedText({ text, textValid: textValid.map(() => 0) }),
    'ERR_VILG_INVALID_ARGUMENT',
    'CLS',
  )
  await refuses(t, matcher.compare({ ...batch, image: image.subarray(9) }), 'ERR_VILG_SHAPE_MISMATCH')
  await refuses(
    t,
    matcher.compare(batch, { direction: 1 } as never),
    'ERR_VILG_INVALID_ARGUMENT',
    'direction',
  )
  t.throws(() => matcher.score(NaN), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  const one = { text: text.slice(0, 7), textValid: textValid.slice(0, 7), image: image.slice(0, 9) }
  await refuses(t, matcher.calibrate(one), 'ERR_VILG_INVALID_ARGUMENT', 'differ')
  const reason = new Error('enough')
  const error = await t.throwsAsync(matcher.compare(batch, { signal: AbortSignal.abort(reason) }))
  t.is(error, reason)
  await matcher.dispose()
  await refuses(t, matcher.compare(batch), 'ERR_VILG_DISPOSED')
})
