import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  ErnieVilg,
  Generator,
  type GeneratorConfig,
  ImageTokenizer,
  Matcher,
  type VqganConfig,
  TextTokenizer,
} from '../../lib/index.ts'
import { modelFacts } from '../../lib/model/model-facts.ts'
import { fixture, refuses, temporaryFolder, tinyConfig } from './helpers.ts'

const tokenizerConfig: VqganConfig = {
  quantizer: 'nearest',
  resolution: 12,
  channels: 32,
  multipliers: [1, 1, 1],
  residualBlocks: 1,
  attentionResolutions: [],
  latentChannels: 8,
  codebookSize: 23,
  codebookDim: 8,
}
const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...'一个红色的苹果和两只猫狗'].slice(0, 17)

async function parts(
  t: ExecutionContext,
  changes: { generator?: Partial<GeneratorConfig>; imageTokenizer?: Partial<VqganConfig> } = {},
) {
  const textTokenizer = TextTokenizer.fromVocabulary(words)
  const config = tinyConfig({ textVocab: textTokenizer.vocabSize, ...changes.generator })
  const generator = await Generator.create(config, { seed: 1 })
  const imageTokenizer = await ImageTokenizer.create(
    { ...tokenizerConfig, ...changes.imageTokenizer },
    { seed: 2 },
  )
  t.teardown(() => Promise.all([generator.dispose(), imageTokenizer.dispose()]))
  return { generator, imageTokenizer, textTokenizer }
}

test('a bundle is made of parts that fit', async (t) => {
  const all = await parts(t)
  const bundle = ErnieVilg.create({
    ...all,
    name: 'tiny',
    samplingDefaults: { temperature: 0.5, topK: 5, topP: 0.9 },
  })
  t.is(bundle.generator, all.generator)
  t.is(bundle.name, 'tiny')
  t.deepEqual([...bundle.trainedFor], ['text-to-image', 'image-to-text'])
  t.deepEqual(bundle.samplingDefaults, { temperature: 0.5, topK: 5, topP: 0.9 })
  await bundle.dispose()
  t.true(all.generator.disposed && all.imageTokenizer.disposed && bundle.disposed)
  await refuses(t, bundle.save(await temporaryFolder(t)), 'ERR_VILG_DISPOSED')
  await refuses(t, async () => ErnieVilg.create(all), 'ERR_VILG_DISPOSED')
})

test('a bundle may have a matcher, which is loaded, saved and disposed of with it', async (t) => {
  const all = await parts(t)
  const { textVocab, imageVocab, grid } = all.generator.config
  const config = { ...tinyConfig({ textVocab, imageVocab, grid }), dim: 4 }
  const matcher = await Matcher.create(config, { seed: 3 })
  const bundle = ErnieVilg.create({ ...all, matcher })
  t.is(bundle.matcher, matcher)
  const folder = await temporaryFolder(t)
  await bundle.save(folder)
  const fractions: number[] = []
  const loaded = await ErnieVilg.load(folder, { onProgress: ({ fraction }) => fractions.push(fraction) })
  t.deepEqual(loaded.matcher!.config, matcher.config)
  t.is(fractions.at(-1), 1)
  t.deepEqual(
    fractions,
    [...fractions].sort((a, b) => a - b),
  )
  const facts = await modelFacts(folder)
  t.is(facts.matcher!.parameters, matcher.parameterCount)
  t.is(
    facts.memoryBytes.float32,
    4 * (matcher.parameterCount + all.generator.parameterCount + all.imageTokenizer.parameterCount),
  )
  await loaded.dispose()
  t.true(loaded.matcher!.disposed)

  // what an older bundle left there is none of a bundle without
  const { generator, imageTokenizer } = await parts(t)
  const without = ErnieVilg.create({ ...all, generator, imageTokenizer })
  await without.save(folder)
  t.true(existsSync(join(folder, 'matcher')))
  const again = await ErnieVilg.load(folder)
  t.is(again.matcher, undefined)
  t.false('matcher' in (await modelFacts(folder)))
  await Promise.all([again.dispose(), without.dispose()])

  await rm(join(folder, 'matcher'), { recursive: true })
  await writeFile(
    join(folder, 'bundle.json'),
    (await readFile(join(folder, 'bundle.json'), 'utf8')).replace(
      '"version": 1',
      '"version": 1, "matcher": true',
    ),
  )
  await refuses(t, ErnieVilg.load(folder), 'ERR_VILG_IO', 'matcher')
  await bundle.dispose()
  t.true(matcher.disposed)
})

test('a matcher that does not fit is refused', async (t) => {
  const all = await parts(t)
  const { textVocab, imageVocab, grid } = all.generator.config
  for (const [changes, words] of [
    [{ textVocab: textVocab + 1 }, 'textVocab of the matcher'],
    [{ imageVocab: imageVocab + 1 }, 'imageVocab of the matcher'],
    [{ grid: grid + 1 }, 'grid of the matcher'],
  ] as const) {
    const config = { ...tinyConfig({ textVocab, imageVocab, grid, ...changes }), dim: 4 }
    await using matcher = await Matcher.create(config)
    await refuses(t, async () => ErnieVilg.create({ ...all, matcher }), 'ERR_VILG_SHAPE_MISMATCH', words)
  }
  const matcher = all.generator as never
  await refuses(
    t,
    async () => ErnieVilg.create({ ...all, matcher }),
    'ERR_VILG_INVALID_ARGUMENT',
    'a Matcher',
  )
})

test('parts that do not fit are refused, with both numbers', async (t) => {
  const code = 'ERR_VILG_SHAPE_MISMATCH'
  const create = async (changes: Parameters<typeof parts>[1]) => ErnieVilg.create(await parts(t, changes))
  await refuses(t, create({ generator: { textVocab: 99 } }), code, 'textVocab', '17', '99')
  await refuses(t, create({ generator: { imageVocab: 24 } }), code, 'imageVocab', '23', '24')
  await refuses(t, create({ generator: { grid: 4 } }), code, 'grid', '3', '4')
  const all = await parts(t)
  const make = (changes: object) => async () => ErnieVilg.create({ ...all, ...changes })
  await refuses(t, make({ generator: all.imageTokenizer }), 'ERR_VILG_INVALID_ARGUMENT', 'a Generator')
  await refuses(t, make({ imageTokenizer: undefined }), 'ERR_VILG_INVALID_ARGUMENT', 'an ImageTokenizer')
  await refuses(t, make({ textTokenizer: {} }), 'ERR_VILG_INVALID_ARGUMENT', 'a TextTokenizer')
  await refuses(t, make({ trainedFor: ['art'] }), 'ERR_VILG_INVALID_ARGUMENT', 'art')
  await refuses(t, make({ samplingDefaults: { temperature: 1 } }), 'ERR_VILG_INVALID_ARGUMENT', 'topK')
  await refuses(t, make({ title: 'x' }), 'ERR_VILG_INVALID_ARGUMENT', 'title')
})

test('a bundle survives its folder', async (t) => {
  const bundle = ErnieVilg.create({
    ...(await parts(t)),
    name: 'tiny',
    description: '画一个苹果',
    trainedFor: ['text-to-image'],
    samplingDefaults: { temperature: 0.7, topK: 0, topP: 0.95 },
  })
  const folder = join(await temporaryFolder(t), 'bundle')
  await bundle.save(folder)
  t.deepEqual((await readdir(folder)).sort(), [
    'bundle.json',
    'generator',
    'image-tokenizer',
    'text-tokenizer',
  ])
  t.true(existsSync(join(folder, 'text-tokenizer', 'vocab.txt')))
  const fractions: number[] = []
  await using again = await ErnieVilg.load(folder, {
    onProgress: ({ fraction }) => void fractions.push(fraction),
  })
  for (const key of ['name', 'description', 'trainedFor', 'samplingDefaults'] as const) {
    t.deepEqual(again[key], bundle[key])
  }
  t.deepEqual(again.generator.config, bundle.generator.config)
  t.is(again.textTokenizer.vocabSize, 17)
  t.true(
    fractions.every((fraction, i) => fraction > 0 && fraction <= 1 && fraction >= (fractions[i - 1] ?? 0)),
  )
  t.is(fractions.at(-1), 1)
  const indices = Int32Array.from({ length: 9 }, (_, i) => i)
  t.deepEqual(await again.imageTokenizer.decode(indices), await bundle.imageTokenizer.decode(indices))

  // once more over itself, beside a file of somebody else
  await writeFile(join(folder, 'README.md'), 'licences')
  await again.save(folder, { precision: 'bfloat16' })
  t.deepEqual((await readdir(folder)).length, 5)
  await using half = await ErnieVilg.load(folder, { precision: 'bfloat16' })
  t.is(half.generator.precision, 'bfloat16')
})

test('a folder that is no bundle, a newer one, or one whose parts do not fit', async (t) => {
  const folder = join(await temporaryFolder(t), 'bundle')
  await mkdir(folder)
  await refuses(t, ErnieVilg.load(folder), 'ERR_VILG_IO', 'bundle.json')
  await ErnieVilg.create(await parts(t)).save(folder)
  const path = join(folder, 'bundle.json')
  const json = JSON.parse(await readFile(path, 'utf8')) as object
  const incompatible = 'ERR_VILG_CHECKPOINT_INCOMPATIBLE'
  const changed = async (changes: object, ...words: string[]) => {
    await writeFile(path, JSON.stringify({ ...json, ...changes }))
    await refuses(t, ErnieVilg.load(folder), incompatible, 'bundle.json', ...words)
  }
  await changed({ version: 2 }, 'newer')
  await changed({ format: 'other' }, 'ernie-vilg-bundle', 'other')
  await changed({ trainedFor: 'drawing' }, 'trainedFor')
  await changed({ more: 1 }, 'more')
  await writeFile(path, '{')
  await refuses(t, ErnieVilg.load(folder), 'ERR_VILG_CHECKPOINT_FORMAT', 'bundle.json')
  await writeFile(path, JSON.stringify(json))

  const { generator } = await parts(t, { generator: { imageVocab: 50 } })
  await generator.save(join(folder, 'generator'))
  await refuses(t, ErnieVilg.load(folder), incompatible, 'imageVocab', '23', '50')
  await rm(join(folder, 'text-tokenizer', 'vocab.txt'))
  await refuses(t, ErnieVilg.load(folder), 'ERR_VILG_IO', 'vocab.txt')
})

test('options are checked before anything is read', async (t) => {
  await refuses(t, ErnieVilg.load('/none', { fast: 1 } as never), 'ERR_VILG_INVALID_ARGUMENT', 'fast')
  await refuses(t, ErnieVilg.load('/none', { device: 'cuda' }), 'ERR_VILG_UNSUPPORTED', 'CUDA')
  await refuses(t, ErnieVilg.load(3 as never), 'ERR_VILG_INVALID_ARGUMENT', 'folder')
  const reason = new Error('enough')
  t.is(await t.throwsAsync(ErnieVilg.load('/none', { signal: AbortSignal.abort(reason) })), reason)
})

test('no folder: the model that ships with the package, or how to get one', async (t) => {
  if (existsSync(join(fixture('..'), '..', 'models', 'emoji', 'bundle.json'))) {
    await using shipped = await ErnieVilg.load()
    t.true(shipped.generator.parameterCount > 0)
  } else {
    await refuses(t, ErnieVilg.load(), 'ERR_VILG_IO', 'models/emoji', 'ErnieVilg.load(folder)', 'train:emoji')
  }
})
