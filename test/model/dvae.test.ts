import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { backendInfo, ImageTokenizer, SafetensorsFile, setIsa, setThreads } from '../../lib/index.ts'
import { devices, fixture, floats, randomFrom, refuses, relativeError, temporaryFolder } from './helpers.ts'

const config = {
  model: 'dvae',
  resolution: 32,
  hidden: 16,
  initial: 8,
  blocksPerGroup: 2,
  groups: 4,
  codebookSize: 48,
  epsilon: 0.1,
} as const
const picture = 3 * 32 * 32

/** The fixture's weights with a config that says how large its pictures are, which the fixture's own leaves open. */
async function tiny(t: ExecutionContext, changes: object = {}): Promise<string> {
  const folder = await temporaryFolder(t)
  await cp(`${fixture('dalle-dvae-tiny')}/weights.safetensors`, join(folder, 'weights.safetensors'))
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, ...changes }))
  return folder
}

// Reference values: DALL-E's encoder and decoder (test/fixtures).
for (const device of devices) {
  test.serial(`${device}: logits, tokens and pictures of the reference`, async (t) => {
    await using expected = await SafetensorsFile.open(`${fixture('dalle-dvae-tiny')}/expected.safetensors`)
    await using tokenizer = await ImageTokenizer.load(await tiny(t), { device })
    t.is(tokenizer.grid, 4)
    const images = (await floats(expected, 'image')).map((x) => 2 * x - 1)
    const isas = device === 'cpu' ? backendInfo().isas : [undefined]
    for (const isa of isas) {
      if (isa !== undefined) setIsa(isa)
      const { indices, prequant } = await tokenizer.encode(images)
      const error = relativeError(prequant, await floats(expected, 'logits'))
      t.true(error < 1e-5, `${isa}: logits ${error}`)
      t.deepEqual([...indices], [...((await expected.read('indices')) as Int32Array)], `${isa}`)
      const pictures = (await tokenizer.decode(indices)).map((x) => (x + 1) / 2)
      const off = relativeError(pictures, await floats(expected, 'reconstruction'))
      t.true(off < 1e-5, `${isa}: reconstruction ${off}`)
    }
    if (isas.length > 1) setIsa(isas.at(-1)!)
  })
}

test.serial('1 thread and 2 give the same bits, whatever else is in the batch', async (t) => {
  const before = backendInfo().threads
  t.teardown(() => setThreads(before))
  await using tokenizer = await ImageTokenizer.load(await tiny(t))
  const random = randomFrom(1)
  const images = Float32Array.from({ length: 3 * picture }, () => 2 * random() - 1)
  const runs = []
  for (const threads of [1, 2, 3]) {
    setThreads(threads)
    const { indices, prequant } = await tokenizer.encode(images)
    runs.push({ indices, prequant, pictures: await tokenizer.decode(indices) })
  }
  t.deepEqual(runs[1], runs[0])
  t.deepEqual(runs[2], runs[0])
  const one = await tokenizer.encode(images.subarray(picture, 2 * picture))
  t.deepEqual(one.indices, runs[0]!.indices.slice(16, 32))
})

test('what is saved loads again, and a bfloat16 copy is close', async (t) => {
  const folder = await temporaryFolder(t)
  await using fresh = await ImageTokenizer.create(config, { seed: 3 })
  await fresh.save(folder)
  await using again = await ImageTokenizer.load(folder)
  t.deepEqual(again.config, config)
  const indices = Int32Array.from({ length: 16 }, (_, i) => (i * 7) % 48)
  const pictures = await fresh.decode(indices)
  t.deepEqual(await again.decode(indices), pictures)
  t.true(pictures.every((x) => x >= -1 && x <= 1))
  await using half = await ImageTokenizer.load(folder, { precision: 'bfloat16' })
  const error = relativeError(await half.decode(indices), pictures)
  // 8 bits of mantissa in each of some 20 layers, their errors independent
  t.true(error > 1e-6 && error < 0.05, `${error}`)
})

test('configs and calls that do not fit', async (t) => {
  const create = (changes: object) => ImageTokenizer.create({ ...config, ...changes } as never)
  const invalid = 'ERR_VILG_INVALID_ARGUMENT'
  await refuses(t, create({ hidden: 6 }), invalid, 'hidden', 'a multiple of 4')
  await refuses(t, create({ resolution: 20 }), invalid, 'resolution', 'a multiple of 8')
  await refuses(t, create({ epsilon: 0.5 }), invalid, 'epsilon')
  await refuses(t, create({ epsilon: 0 }), invalid, 'epsilon')
  await refuses(t, create({ groups: undefined }), invalid, 'groups')
  await refuses(t, create({ quantizer: 'gumbel' }), invalid, 'quantizer')
  await refuses(
    t,
    ImageTokenizer.load(await tiny(t, { hidden: 32 })),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    'encoder.blocks',
  )
  await using tokenizer = await ImageTokenizer.load(await tiny(t))
  await refuses(t, tokenizer.encode(new Float32Array(5)), 'ERR_VILG_SHAPE_MISMATCH', '3072')
  await refuses(t, tokenizer.decode(new Int32Array(16).fill(48)), invalid, '47')
  await refuses(t, tokenizer.gradients(new Float32Array(picture)), 'ERR_VILG_UNSUPPORTED', 'vqgan')
})

test('a dvae without a resolution has pictures of 256 x 256', async (t) => {
  const { resolution: _, ...rest } = config
  await using tokenizer = await ImageTokenizer.create(rest)
  t.is(tokenizer.config.resolution, 256)
  t.is(tokenizer.grid, 32)
})
