import test from 'ava'
import { changeBundleConfig, DEFAULT_SIZES, defaultBundleConfig } from '../../lib/trainer/bundle/config.ts'
import { checkGeneratorConfig } from '../../lib/model/generator-config.ts'
import { checkVqganConfig } from '../../lib/model/image-tokenizer-config.ts'
import { resolveTrainerOptions } from '../../lib/trainer/options.ts'

test('the defaults fit each other for every size', (t) => {
  for (const size of DEFAULT_SIZES) {
    const { imageTokenizer, generator } = changeBundleConfig(defaultBundleConfig(size, 1000), {})
    const tokenizer = checkVqganConfig(imageTokenizer.model)
    const model = checkGeneratorConfig({ ...generator.model, textVocab: 100 })
    t.is(tokenizer.resolution, size)
    t.is(model.grid, tokenizer.resolution / 2 ** (tokenizer.multipliers.length - 1))
    t.is(model.imageVocab, tokenizer.codebookSize)
    t.is(resolveTrainerOptions('generator', generator.training).totalSteps, generator.steps)
    t.is(resolveTrainerOptions('image-tokenizer', imageTokenizer.training).totalSteps, imageTokenizer.steps)
  }
  t.throws(() => defaultBundleConfig(48, 10), { code: 'ERR_VILG_INVALID_ARGUMENT' })
})

test('changes replace what they name, and nothing else', (t) => {
  const config = defaultBundleConfig(64, 1000)
  const before = structuredClone(config)
  const changed = changeBundleConfig(config, {
    generator: { steps: 7, model: { layers: 2 }, training: { labelSmoothing: 0.1 } },
    imageTokenizer: { model: { multipliers: [1, 2] } },
  })
  t.deepEqual(config, before)
  t.is(changed.generator.model.layers, 2)
  t.is(changed.generator.model.hidden, before.generator.model.hidden)
  t.is(changed.generator.training.totalSteps, 7)
  t.is(changed.generator.training.labelSmoothing, 0.1)
  t.deepEqual(changed.imageTokenizer.model.multipliers, [1, 2])
  t.deepEqual(changed.sampling, before.sampling)
  const longer = changeBundleConfig(config, { generator: { steps: 7, training: { totalSteps: 9 } } })
  t.is(longer.generator.training.totalSteps, 9)
})

test('keys that are none, and values of another type, are refused by name', (t) => {
  const config = defaultBundleConfig(64, 1000)
  for (const [changes, word] of [
    [{ generater: {} }, 'generater'],
    [{ generator: { layers: 2 } }, 'layers'],
    [{ generator: 3 }, 'config.generator'],
    [{ generator: { steps: 0 } }, 'steps'],
    [{ generator: { batch: '16' } }, 'config.generator.batch'],
    [{ generator: { nameShare: 'half' } }, 'config.generator.nameShare'],
    [{ generator: { sampleEvery: null } }, 'config.generator.sampleEvery'],
    [{ generator: { training: [] } }, 'config.generator.training'],
    [{ imageTokenizer: { seed: 1.5 } }, 'config.imageTokenizer.seed'],
    [{ imageTokenizer: { evaluateEvery: 0 } }, 'config.imageTokenizer.evaluateEvery'],
    [{ text: { vocabularySize: '' } }, 'config.text.vocabularySize'],
    [{ text: null }, 'config.text'],
    [{ sampling: { topk: 3 } }, 'topk'],
    [null, 'config'],
  ] as const) {
    const error = t.throws(() => changeBundleConfig(config, changes), { code: 'ERR_VILG_INVALID_ARGUMENT' })
    t.true(error.message.includes(word), error.message)
  }
})
