import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  assembleBundle,
  convertCheckpoint,
  ErnieVilg,
  Generator,
  ImageTokenizer,
  SafetensorsFile,
  Sampler,
  TextTokenizer,
} from '../../lib/index.ts'
import { dict, orderedDict, type Py } from '../checkpoint/writers/pickle.ts'
import { Storages, torchZip } from '../checkpoint/writers/torch.ts'
import { cli } from '../cli/helpers.ts'
import { fixture, floats, refuses, relativeError, temporaryFolder } from '../model/helpers.ts'

// ▁ and the letters from а on: with the four special tokens 32, as the fixture's text ids before those of PAD
const letters = [9601, ...Array.from({ length: 27 }, (_, i) => 1072 + i)]
const bpe = `28 0\n${letters.map((code, i) => `${code} ${i + 4}\n`).join('')}1 0 2 3\n`

/** The parts of a model as they come from their conversions; the image tokenizer is a random one, and gives wavelets. */
async function parts(t: ExecutionContext): Promise<string> {
  const folder = join(await temporaryFolder(t), 'malevich')
  await mkdir(join(folder, 'text-tokenizer'), { recursive: true })
  await writeFile(join(folder, 'text-tokenizer/bpe.model'), bpe)
  const storages = new Storages()
  await using file = await SafetensorsFile.open(fixture('rudalle-tiny/weights.safetensors'))
  const state: [string, Py][] = []
  for (const [name, { shape }] of file.tensors) {
    state.push([name, storages.tensor(storages.add('FloatStorage', await file.readFloat32(name)), shape)])
  }
  const weights = join(folder, 'pytorch_model.bin')
  await writeFile(weights, torchZip(orderedDict(state), storages.all))
  await writeFile(`${weights}.json`, '{"num_attention_heads": 4, "hf_version": "v3"}')
  await convertCheckpoint({ weights, config: `${weights}.json`, to: join(folder, 'generator') })
  await using tokenizer = await ImageTokenizer.create({
    quantizer: 'gumbel',
    resolution: 8,
    channels: 32,
    multipliers: [1, 1],
    residualBlocks: 1,
    attentionResolutions: [],
    latentChannels: 4,
    codebookSize: 24,
    codebookDim: 4,
    wavelet: true,
  })
  await tokenizer.save(join(folder, 'image-tokenizer'))
  return folder
}

const sampling = { temperature: 1, topK: 16, topP: 0.995 }

test('converted parts become a bundle, which draws', async (t) => {
  const folder = await parts(t)
  const made = await assembleBundle(folder, { name: 'Malevich', samplingDefaults: sampling })
  t.like(made, { name: 'Malevich', trainedFor: ['text-to-image'] })
  await using model = await ErnieVilg.load(folder)
  t.deepEqual(model.samplingDefaults, sampling)
  const sampler = new Sampler(model)
  const images = await sampler.textToImage('Рыж К', { count: 2, seed: 1 })
  t.is(images.length, 2)
  t.like(images[0], { width: 16, height: 16 })
  t.is(images[0]!.tokens.length, 16)
  const again = await sampler.textToImage('рыж  к ', { count: 1, seed: 1 })
  t.deepEqual(again[0]!.tokens, images[0]!.tokens)
  let last: string | undefined
  for await (const event of sampler.streamImage('кот', { seed: 1 })) last = event.type
  t.is(last, 'image')
  await refuses(t, sampler.textToImage('кот', { count: 2, best: 1 }), 'ERR_VILG_UNSUPPORTED', 'image-to-text')
  await refuses(t, sampler.imageToText(images[0]!), 'ERR_VILG_UNSUPPORTED', 'image-to-text')
})

test('a bundle of parts that do not fit is refused, with what does not', async (t) => {
  const folder = await parts(t)
  const incompatible = 'ERR_VILG_CHECKPOINT_INCOMPATIBLE'
  await refuses(t, assembleBundle(folder, { trainedFor: ['image-to-text'] }), incompatible, 'only draws')
  await refuses(t, assembleBundle(folder, { nam: 'x' } as never), 'ERR_VILG_INVALID_ARGUMENT', 'nam')
  const model = join(folder, 'text-tokenizer/bpe.model')
  await writeFile(model, bpe.replace('28 0', '27 0').replace('1098 31\n', ''))
  await refuses(t, assembleBundle(folder), incompatible, 'paddingIds', '31 tokens', 'found 32')
  // PAD and UNK in each other's place
  await writeFile(model, bpe.replace('1 0 2 3', '0 1 2 3'))
  await refuses(t, assembleBundle(folder), incompatible, 'PAD is 0', 'found 1')
  await writeFile(model, bpe)
  await assembleBundle(folder)
  await rm(join(folder, 'image-tokenizer'), { recursive: true })
  await refuses(t, assembleBundle(folder), 'ERR_VILG_IO', 'image-tokenizer')
})

test('the same from the command line, and from parts that are loaded', async (t) => {
  const folder = await parts(t)
  const { code, stdout, stderr } = await cli(['bundle', folder, '--name', 'Malevich', '--top-k', '16'])
  t.is(code, 0, stderr)
  t.regex(stdout, /Malevich, for text-to-image/)
  const json = JSON.parse(await readFile(join(folder, 'bundle.json'), 'utf8')) as object
  t.like(json, { name: 'Malevich', samplingDefaults: { temperature: 1, topK: 16, topP: 1 } })
  const loaded = {
    generator: await Generator.load(join(folder, 'generator')),
    imageTokenizer: await ImageTokenizer.load(join(folder, 'image-tokenizer')),
    textTokenizer: await TextTokenizer.load(join(folder, 'text-tokenizer')),
  }
  t.throws(() => ErnieVilg.create({ ...loaded, trainedFor: ['text-to-image', 'image-to-text'] }), {
    code: 'ERR_VILG_SHAPE_MISMATCH',
  })
  await using model = ErnieVilg.create(loaded)
  t.deepEqual(model.trainedFor, ['text-to-image'])
})

test('the decoder of wavelets: pictures of twice the side', async (t) => {
  const folder = await temporaryFolder(t)
  await using file = await SafetensorsFile.open(fixture('taming-gumbel-tiny/weights.safetensors'))
  const storages = new Storages()
  const state: [string, Py][] = []
  for (const [name, { shape }] of file.tensors) {
    let data = await file.readFloat32(name)
    let dims: readonly number[] = shape
    if (name.startsWith('decoder.conv_out.')) {
      // twice the picture as its low band, and no details: each pixel becomes four
      const bands = new Float32Array(4 * data.length)
      bands.set(data.map((x) => 2 * x))
      data = bands
      dims = [12, ...shape.slice(1)]
    }
    const at = name.replace(/^(decoder|post_quant_conv)\./, 'decoder.$1.')
    state.push([`model.${at}`, storages.tensor(storages.add('FloatStorage', data), dims)])
    if (name.startsWith('post_quant_conv.')) {
      // the file has one beside the decoder too, of which the code makes no use
      state.push([
        `model.${name}`,
        storages.tensor(storages.add('FloatStorage', new Float32Array(data.length)), dims),
      ])
    }
  }
  const weights = join(folder, 'vqgan.gumbelf8-sber-dwt.model.ckpt')
  await writeFile(weights, torchZip(dict({ state_dict: orderedDict(state) }), storages.all))
  const report = await convertCheckpoint({ weights, to: join(folder, 'vqgan'), resolution: 32 })
  t.like(report, { kind: 'taming-vqgan', prefix: 'state_dict.model.', config: { wavelet: true } })
  t.deepEqual(report.unused.sort(), [
    'state_dict.model.post_quant_conv.bias',
    'state_dict.model.post_quant_conv.weight',
  ])
  await using tokenizer = await ImageTokenizer.load(join(folder, 'vqgan'))
  t.is(tokenizer.decodedSide, 64)
  await using expected = await SafetensorsFile.open(fixture('taming-gumbel-tiny/expected.safetensors'))
  const { indices } = await tokenizer.encode(await floats(expected, 'image'))
  t.deepEqual([...indices], [...(await expected.read('indices'))].map(Number))
  const pictures = await tokenizer.decode(indices)
  const small = await floats(expected, 'reconstruction')
  const larger = pictures.map((_, i) => {
    const [plane, y, x] = [Math.floor(i / 4096), Math.floor((i % 4096) / 64), i % 64]
    return small[plane * 1024 + (y >> 1) * 32 + (x >> 1)]!
  })
  const error = relativeError(pictures, larger)
  t.true(error < 1e-5, String(error))
  await refuses(t, tokenizer.gradients(await floats(expected, 'image')), 'ERR_VILG_UNSUPPORTED')
})
