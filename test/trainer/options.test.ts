import { resolve } from 'node:path'
import test from 'ava'
import { annealedAt } from '../../lib/trainer/annealing.ts'
import { resolveTrainerOptions, trainerOptionKeys } from '../../lib/trainer/options.ts'
import { learningRateAt } from '../../lib/trainer/schedule.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }

test('the warm-up rises in a line and ends at the full rate', (t) => {
  const plan = {
    learningRate: 0.8,
    warmupSteps: 4,
    totalSteps: 0,
    minLearningRate: 0,
    schedule: 'constant',
  } as const
  const rates = [0, 1, 2, 3, 4, 1000].map((step) => learningRateAt(step, plan))
  t.deepEqual(rates, [0.2, 0.4, 0.8 * 0.75, 0.8, 0.8, 0.8])
})

test('cosine goes down from the warm-up to the end and stays there', (t) => {
  const plan = {
    learningRate: 1,
    warmupSteps: 10,
    totalSteps: 110,
    minLearningRate: 0.2,
    schedule: 'cosine',
  } as const
  t.is(learningRateAt(9, plan), 1)
  t.is(learningRateAt(10, plan), 1)
  t.true(Math.abs(learningRateAt(60, plan) - 0.6) < 1e-12) // half way: the mean
  t.true(Math.abs(learningRateAt(35, plan) - (0.2 + 0.8 * 0.5 * (1 + Math.SQRT1_2))) < 1e-12) // a quarter
  t.is(learningRateAt(110, plan), 0.2)
  t.is(learningRateAt(5000, plan), 0.2)
  for (let step = 10; step < 110; step++) {
    t.true(learningRateAt(step + 1, plan) < learningRateAt(step, plan))
  }
})

test('defaults, and what each kind of target has', (t) => {
  const generator = resolveTrainerOptions('generator')
  t.is(generator.schedule, 'constant')
  t.deepEqual(generator.directionWeights, { textToImage: 1, imageToText: 1 })
  t.is(generator.lossWeights, undefined)
  const tokenizer = resolveTrainerOptions('image-tokenizer', { lossWeights: { commitment: 0.25 } })
  t.deepEqual(tokenizer.lossWeights, { reconstruction: 1, absolute: 0, commitment: 0.25, codebook: 1 })
  t.is(tokenizer.labelSmoothing, undefined)
  t.deepEqual(
    [tokenizer.discriminator, tokenizer.perceptual, tokenizer.codebookAverages],
    [undefined, undefined, undefined],
  )
  t.deepEqual(tokenizer.betas, [0.9, 0.95])
  const adversarial = resolveTrainerOptions('image-tokenizer', {
    perceptual: { weights: 'lpips.safetensors' },
    discriminator: { start: 7 },
    codebookAverages: {},
  })
  t.deepEqual(adversarial.betas, [0.5, 0.9])
  t.deepEqual(adversarial.perceptual, { weights: resolve('lpips.safetensors'), weight: 1 })
  t.deepEqual(adversarial.discriminator, { start: 7, weight: 0.8, channels: 64, layers: 3 })
  t.deepEqual(adversarial.codebookAverages, { decay: 0.99, epsilon: 1e-5 })
  const dvae = resolveTrainerOptions('dvae', { temperature: 0.9 })
  t.is(dvae.temperature, 0.9)
  t.deepEqual(dvae.divergenceWeight, { from: 0, to: 6.6, steps: 5000 })
  t.is(dvae.lossWeights, undefined)
  // what was resolved can be given again, as resuming does
  for (const [kind, options] of [
    ['generator', generator],
    ['image-tokenizer', tokenizer],
    ['image-tokenizer', adversarial],
    ['dvae', dvae],
  ] as const) {
    t.deepEqual(resolveTrainerOptions(kind, options), options)
    t.deepEqual(resolveTrainerOptions(kind, JSON.parse(JSON.stringify(options)) as object), options)
  }
  t.true(trainerOptionKeys('generator').includes('zLoss'))
  t.false(trainerOptionKeys('image-tokenizer').includes('zLoss'))
})

test('bad options', (t) => {
  const bad: [object, RegExp][] = [
    [{ learningrate: 1 }, /unknown key "learningrate"/],
    [{ reviveAfter: 3 }, /unknown key "reviveAfter"/],
    [{ learningRate: 0 }, /a number above 0 for learningRate, received 0/],
    [{ learningRate: NaN }, /learningRate, received NaN/],
    [{ learningRate: '1' }, /learningRate/],
    [{ warmupSteps: -1 }, /warmupSteps/],
    [{ schedule: 'linear' }, /"constant", "cosine" for schedule/],
    [{ schedule: 'cosine' }, /totalSteps/],
    [{ schedule: 'cosine', warmupSteps: 9, totalSteps: 9 }, /at least 10 for totalSteps/],
    [{ schedule: 'cosine', totalSteps: 9, minLearningRate: 1 }, /minLearningRate/],
    [{ totalSteps: 9 }, /none without schedule: 'cosine' for totalSteps/],
    [{ minLearningRate: 0 }, /for minLearningRate/],
    [{ betas: [0.9] }, /two numbers for betas/],
    [{ betas: [0.9, 1] }, /betas\[1\], received 1/],
    [{ epsilon: 0 }, /epsilon/],
    [{ weightDecay: -1 }, /weightDecay/],
    [{ clipNorm: Infinity }, /clipNorm/],
    [{ accumulate: 0 }, /accumulate/],
    [{ accumulate: 1.5 }, /accumulate/],
    [{ precision: 'float16' }, /precision/],
    [{ seed: -1 }, /seed/],
    [{ groups: {} }, /an array of groups of weights for groups/],
    [{ groups: [{}] }, /groups\[0\].weights/],
    [{ groups: [{ weights: [] }] }, /groups\[0\].weights/],
    [{ groups: [{ weights: '*', learningRate: 0 }] }, /unknown key "learningRate"/],
    [{ groups: [{ weights: '*', learningRateScale: -1 }] }, /groups\[0\].learningRateScale/],
    [{ groups: [{ weights: '*', weightDecay: NaN }] }, /groups\[0\].weightDecay/],
    [{ labelSmoothing: 1 }, /labelSmoothing/],
    [{ zLoss: -1 }, /zLoss/],
    [{ directionWeights: { textToImage: 0, imageToText: 0 } }, /a weight above 0 for directionWeights/],
    [{ directionWeights: { textToImages: 1 } }, /unknown key "textToImages"/],
    [{ directionWeights: { textToImage: -1 } }, /directionWeights.textToImage/],
  ]
  for (const [options, message] of bad) {
    t.throws(() => resolveTrainerOptions('generator', options), { ...invalid, message })
  }
  const badTokenizer: [object, RegExp][] = [
    [{ zLoss: 1 }, /unknown key "zLoss"/],
    [{ temperature: 1 }, /unknown key "temperature"/],
    [{ perceptual: {} }, /perceptual.weights/],
    [{ perceptual: { weights: 'a', weight: 0 } }, /a number above 0 for perceptual.weight/],
    [{ discriminator: { start: -1 } }, /discriminator.start/],
    [{ discriminator: { weight: 0 } }, /discriminator.weight/],
    [{ discriminator: { layers: 9 } }, /discriminator.layers/],
    [{ discriminator: true }, /discriminator/],
    [{ codebookAverages: { epsilon: 0 } }, /codebookAverages.epsilon/],
  ]
  for (const [options, message] of badTokenizer) {
    t.throws(() => resolveTrainerOptions('image-tokenizer', options), { ...invalid, message })
  }
  const badDvae: [object, RegExp][] = [
    [{ lossWeights: {} }, /unknown key "lossWeights"/],
    [{ temperature: '1' }, /a number or \{ from, to, steps \} for temperature/],
    [{ temperature: { from: 1, to: 0, steps: 5 } }, /temperature.to/],
    [{ divergenceWeight: { from: 0, to: 1, steps: 0 } }, /divergenceWeight.steps/],
    [{ divergenceWeight: -1 }, /divergenceWeight/],
    [{ straightThrough: 1 }, /straightThrough/],
  ]
  for (const [options, message] of badDvae) {
    t.throws(() => resolveTrainerOptions('dvae', options), { ...invalid, message })
  }
  t.throws(() => resolveTrainerOptions('image-tokenizer', { reviveAfter: 0.5 }), invalid)
  t.throws(() => resolveTrainerOptions('image-tokenizer', { initializeCodebook: 1 as never }), invalid)
})

test('an annealed value goes along half a cosine and stays', (t) => {
  t.is(annealedAt(1e9, 3), 3)
  const plan = { from: 1, to: 0.5, steps: 100 }
  t.is(annealedAt(0, plan), 1)
  t.is(annealedAt(50, plan), 0.75)
  t.is(annealedAt(100, plan), 0.5)
  t.is(annealedAt(1000, plan), 0.5)
  t.true(annealedAt(10, plan) > 0.95) // slow at first
})
