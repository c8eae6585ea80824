import { cp, mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Generator, ImageTokenizer, SafetensorsFile, writeSafetensors } from '../../lib/index.ts'
import { writeFolder } from '../../lib/model/model-folder.ts'
import { fixture, lively, randomBatch, refuses, temporaryFolder, tinyConfig } from './helpers.ts'

/** A copy of the tiny generator, and a way to change its weights. */
async function copyOf(t: ExecutionContext, name = 'generator-tiny') {
  const folder = join(await temporaryFolder(t), name)
  await mkdir(folder)
  for (const file of ['config.json', 'weights.safetensors'])
    await cp(join(fixture(name), file), join(folder, file))
  const weights = join(folder, 'weights.safetensors')
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>
  const setConfig = (changes: object) =>
    writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...changes }))
  type Tensors = { name: string; shape: number[]; data: Float32Array }[]
  const setTensors = async (change: (tensors: Tensors) => Tensors) => {
    await using file = await SafetensorsFile.open(weights)
    const all: Tensors = []
    for (const { name: key, shape } of file.tensors.values()) {
      all.push({ name: key, shape: [...shape], data: await file.readFloat32(key) })
    }
    await writeSafetensors(weights, change(all))
  }
  return { folder, weights, setConfig, setTensors }
}

test('missing folders and files', async (t) => {
  const { folder, weights } = await copyOf(t)
  await refuses(t, Generator.load(join(folder, 'none')), 'ERR_VILG_IO', 'config.json', 'none')
  await rm(weights)
  await refuses(t, Generator.load(folder), 'ERR_VILG_IO', 'weights.safetensors')
  await refuses(t, Generator.load(3 as never), 'ERR_VILG_INVALID_ARGUMENT', 'folder')
})

test('configs that are no JSON, of another kind, or of another version', async (t) => {
  const { folder, setConfig } = await copyOf(t)
  await setConfig({ model: 'vqgan' })
  await refuses(
    t,
    Generator.load(folder),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'config.json',
    'ernie-vilg-generator',
    'vqgan',
  )
  await setConfig({ layers: 0 })
  await refuses(t, Generator.load(folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'layers', '0')
  await setConfig({ extra: 1 })
  await refuses(t, Generator.load(folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'extra')
  await setConfig({ latentHead: true })
  await refuses(t, Generator.load(folder), 'ERR_VILG_UNSUPPORTED', 'latentHead')
  await writeFile(join(folder, 'config.json'), '{"layers": ')
  await refuses(t, Generator.load(folder), 'ERR_VILG_CHECKPOINT_FORMAT', 'config.json')
  await writeFile(join(folder, 'config.json'), '[]')
  await refuses(t, Generator.load(folder), 'ERR_VILG_CHECKPOINT_FORMAT', 'object')

  const tokenizer = await copyOf(t, 'taming-vqgan-tiny')
  await tokenizer.setConfig({ model: 'dvae' })
  // a dvae has other fields
  await refuses(t, ImageTokenizer.load(tokenizer.folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'dvae')
  await tokenizer.setConfig({ attentionResolutions: [7] })
  await refuses(
    t,
    ImageTokenizer.load(tokenizer.folder),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    '32, 16, 8',
    '7',
  )
  await tokenizer.setConfig({ multipliers: '1,2,2' })
  await refuses(t, ImageTokenizer.load(tokenizer.folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', 'multipliers')
  await tokenizer.setConfig({ channels: 33 })
  await refuses(t, ImageTokenizer.load(tokenizer.folder), 'ERR_VILG_CHECKPOINT_INCOMPATIBLE', '32', '33')
  await tokenizer.setConfig({ resolution: 30 })
  await refuses(
    t,
    ImageTokenizer.load(tokenizer.folder),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'resolution',
    '30',
  )
})

test('weights that are not those of the config: tensor, expected, found', async (t) => {
  const { folder, setConfig, setTensors } = await copyOf(t)
  const code = 'ERR_VILG_CHECKPOINT_INCOMPATIBLE'
  await setConfig({ hidden: 64 })
  await refuses(t, Generator.load(folder), code, '.weight', '[40, 64]', '[40, 32]')
  await setConfig({ layers: 7 })
  await refuses(t, Generator.load(folder), code, 'blocks.6.', 'missing')
  await setConfig({ layers: 5 })
  await refuses(t, Generator.load(folder), code, 'blocks.5.', 'more')
  await setConfig({})
  const name = 'blocks.2.mlp_out.weight'
  await setTensors((all) => all.map((one) => (one.name === name ? { ...one, shape: [128, 32] } : one)))
  await refuses(t, Generator.load(folder), code, name, '[32, 128]', '[128, 32]')
  await setTensors((all) => all.filter((one) => one.name !== name))
  await refuses(t, Generator.load(folder), code, name, 'missing')
})

test('truncated weights, and headers that lie', async (t) => {
  const { folder, weights } = await copyOf(t)
  const bytes = await readFile(weights)
  const header = Number(bytes.readBigUInt64LE())
  const code = 'ERR_VILG_CHECKPOINT_FORMAT'
  for (const length of [0, 7, 8, 100, 8 + header, bytes.length - 1]) {
    await writeFile(weights, bytes)
    await truncate(weights, length)
    await refuses(t, Generator.load(folder), code, 'weights.safetensors')
  }
  await writeFile(weights, Buffer.concat([bytes, Buffer.alloc(1)]))
  await refuses(t, Generator.load(folder), code)
  const lie = async (from: RegExp, to: string) => {
    const json = bytes.subarray(8, 8 + header).toString()
    const lied = json.replace(from, to).padEnd(header).slice(0, header)
    t.not(lied, json)
    await writeFile(
      weights,
      Buffer.concat([bytes.subarray(0, 8), Buffer.from(lied), bytes.subarray(8 + header)]),
    )
    await refuses(t, Generator.load(folder), code)
  }
  await lie(/"data_offsets": \[\d+,/, '"data_offsets": [9,')
  await lie(/"shape": \[\d/, '"shape": [9')
  await lie(/\{/, '[')
  await writeFile(weights, bytes)
  await using sound = await Generator.load(folder)
  t.is(sound.config.layers, 6)
})

test('what is saved is what is loaded; bfloat16 rounds the matrices', async (t) => {
  const generator = await lively(t)
  const folder = join(await temporaryFolder(t), 'made', 'on', 'the', 'way')
  await generator.save(folder)
  t.deepEqual((await readdir(folder)).sort(), ['config.json', 'weights.safetensors'])
  const batch = randomBatch(generator.config, 2, 1)
  const direction = 'image-to-text'
  const expected = await generator.forward(batch, { direction })
  await using again = await Generator.load(folder)
  t.deepEqual(again.config, generator.config)
  t.deepEqual(await again.forward(batch, { direction }), expected)

  await generator.save(folder, { precision: 'bfloat16' })
  await using file = await SafetensorsFile.open(join(folder, 'weights.safetensors'))
  t.is(file.tensors.get('blocks.0.mlp_in.weight')!.dtype, 'BF16')
  t.is(file.tensors.get('blocks.0.mlp_in.bias')!.dtype, 'F32')
  await using rounded = await Generator.load(folder, { precision: 'float32' })
  await using half = await Generator.load(folder, { precision: 'bfloat16' })
  const { loss } = await rounded.forward(batch, { direction })
  t.true(loss !== expected.loss && Math.abs(loss / expected.loss - 1) < 0.02)
  t.true(Math.abs((await half.forward(batch, { direction })).loss / expected.loss - 1) < 0.05)
  // a bfloat16 model saves bfloat16, without a loss
  const other = await temporaryFolder(t)
  await half.save(other)
  t.deepEqual(
    await readFile(join(other, 'weights.safetensors')),
    await readFile(join(folder, 'weights.safetensors')),
  )
  await refuses(
    t,
    generator.save(folder, { precision: 'float16' as never }),
    'ERR_VILG_INVALID_ARGUMENT',
    'float16',
  )
  await refuses(t, generator.save(folder, { fast: true } as never), 'ERR_VILG_INVALID_ARGUMENT', 'fast')
})

test('an image tokenizer survives its folder', async (t) => {
  await using tokenizer = await ImageTokenizer.load(fixture('taming-vqgan-tiny'))
  const folder = await temporaryFolder(t)
  await tokenizer.save(folder)
  await using again = await ImageTokenizer.load(folder)
  const indices = Int32Array.from({ length: 64 }, (_, i) => (i * 3) % 40)
  t.deepEqual(await again.decode(indices), await tokenizer.decode(indices))
  await using file = await SafetensorsFile.open(join(folder, 'weights.safetensors'))
  await using original = await SafetensorsFile.open(join(fixture('taming-vqgan-tiny'), 'weights.safetensors'))
  for (const [name, { shape }] of original.tensors) {
    t.deepEqual(file.tensors.get(name)!.shape, shape)
    t.deepEqual(await file.readFloat32(name), await original.readFloat32(name))
  }
})

test('saving into a folder with another model replaces it and leaves other files', async (t) => {
  const folder = await temporaryFolder(t)
  await using one = await Generator.create(tinyConfig(), { seed: 1 })
  await using two = await Generator.create(tinyConfig({ layers: 2 }), { seed: 2 })
  await one.save(folder)
  await writeFile(join(folder, 'README.md'), 'mine')
  await two.save(folder)
  t.deepEqual((await readdir(folder)).sort(), ['README.md', 'config.json', 'weights.safetensors'])
  await using loaded = await Generator.load(folder)
  t.is(loaded.config.layers, 2)
})

test('a save that fails or is stopped leaves the old model as it was', async (t) => {
  const generator = await lively(t)
  const folder = await temporaryFolder(t)
  await generator.save(folder)
  const before = await readFile(join(folder, 'weights.safetensors'))
  await using other = await Generator.create(tinyConfig(), { seed: 5 })
  await t.throwsAsync(other.save(folder, { signal: AbortSignal.abort(new Error('enough')) }), {
    message: 'enough',
  })
  await refuses(t, other.save(join(folder, 'config.json')), 'ERR_VILG_IO', 'config.json')
  if (process.platform === 'linux')
    await refuses(t, other.save('/proc/nowhere'), 'ERR_VILG_IO', '/proc/nowhere')
  t.deepEqual(await readFile(join(folder, 'weights.safetensors')), before)
  t.deepEqual((await readdir(folder)).sort(), ['config.json', 'weights.safetensors'])
})

test('writeFolder: untouched until written, the marker last, no draft left', async (t) => {
  const folder = await temporaryFolder(t)
  const visible = async () => (await readdir(folder)).filter((name) => !name.startsWith('.draft-')).sort()
  await writeFolder(folder, 'marker', async (draft) => {
    await writeFile(join(draft, 'marker'), '1')
    await mkdir(join(draft, 'part'))
    await writeFile(join(draft, 'part', 'file'), '1')
    t.deepEqual(await visible(), [])
  })
  const failure = new Error('disk full')
  const failed = writeFolder(folder, 'marker', async (draft) => {
    await writeFile(join(draft, 'marker'), '2')
    throw failure
  })
  t.is(await t.throwsAsync(failed), failure)
  t.is(await readFile(join(folder, 'marker'), 'utf8'), '1')
  // a folder with files in it is replaced whole
  await writeFolder(folder, 'marker', async (draft) => {
    await mkdir(join(draft, 'part'))
    await writeFile(join(draft, 'part', 'other'), '3')
    await writeFile(join(draft, 'marker'), '3')
  })
  t.deepEqual(await readdir(join(folder, 'part')), ['other'])
  t.deepEqual(await readdir(folder), ['marker', 'part'])
})
