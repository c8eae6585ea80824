import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { convertCheckpoint, type ConvertOptions, ImageTokenizer, SafetensorsFile } from '../../lib/index.ts'
import { dict, global, newObject, orderedDict, type Py } from '../checkpoint/writers/pickle.ts'
import { Storages, torchLegacy, torchZip } from '../checkpoint/writers/torch.ts'
import { cli } from '../cli/helpers.ts'
import { fixture, floats, relativeError, temporaryFolder } from '../model/helpers.ts'

const name = 'dalle-dvae-tiny'

/** A module with these tensors, by what is left of their names, as torch.save(model) pickles it. */
function pickledModule(type: string, tensors: ReadonlyMap<string, Py>, attributes: Record<string, Py>): Py {
  const parameters: [string, Py][] = []
  const children = new Map<string, Map<string, Py>>()
  for (const [path, tensor] of tensors) {
    const [child, ...rest] = path.split('.')
    if (rest.length === 0) {
      parameters.push([path, tensor])
      continue
    }
    const inner = children.get(child!) ?? new Map<string, Py>()
    children.set(child!, inner.set(rest.join('.'), tensor))
  }
  const modules = [...children].map(([child, inner]): [string, Py] => [
    child,
    pickledModule('torch.nn.modules.container.Sequential', inner, {}),
  ])
  const at = type.lastIndexOf('.')
  return newObject(
    global(type.slice(0, at), type.slice(at + 1)),
    dict({
      ...attributes,
      training: false,
      _parameters: orderedDict(parameters),
      _buffers: orderedDict({}),
      _modules: orderedDict(modules),
    }),
  )
}

interface Making {
  legacy?: boolean
  change?: (tensors: Map<string, Py>, storages: Storages) => void
}

/** One half of the fixture as a file of torch.save(model), which is how DALL-E's are. */
async function half(which: 'encoder' | 'decoder', { legacy = false, change }: Making = {}) {
  await using file = await SafetensorsFile.open(fixture(`${name}/weights.safetensors`))
  const storages = new Storages({ legacy })
  const tensors = new Map<string, Py>()
  for (const [key, { shape }] of file.tensors) {
    if (!key.startsWith(`${which}.`)) continue
    const storage = storages.add('FloatStorage', await file.readFloat32(key))
    tensors.set(key.slice(which.length + 1), storages.tensor(storage, shape))
  }
  change?.(tensors, storages)
  const type = which === 'encoder' ? 'dall_e.encoder.Encoder' : 'dall_e.decoder.Decoder'
  const root = pickledModule(type, tensors, { group_count: 4, n_hid: 16, requires_grad: false })
  return legacy ? torchLegacy(root, storages.all) : torchZip(root, storages.all)
}

async function files(t: ExecutionContext, encoder: Uint8Array, decoder: Uint8Array) {
  const folder = await temporaryFolder(t)
  const at = {
    encoder: join(folder, 'encoder.pkl'),
    decoder: join(folder, 'decoder.pkl'),
    to: join(folder, 'dvae'),
  }
  await writeFile(at.encoder, encoder)
  await writeFile(at.decoder, decoder)
  return { folder, weights: [at.decoder, at.encoder], ...at }
}

for (const legacy of [false, true]) {
  test(`encoder and decoder, ${legacy ? 'legacy' : 'zip'}: the reference's tokens and pictures`, async (t) => {
    const { weights, to } = await files(
      t,
      await half('encoder', { legacy }),
      await half('decoder', { legacy }),
    )
    const report = await convertCheckpoint({ weights, to, resolution: 32 })
    t.like(report, { kind: 'dalle-dvae', prefix: '', unused: [], notes: [] })
    t.deepEqual(report.config, {
      model: 'dvae',
      resolution: 32,
      hidden: 16,
      initial: 8,
      blocksPerGroup: 2,
      groups: 4,
      codebookSize: 48,
      epsilon: 0.1,
    })
    await using tokenizer = await ImageTokenizer.load(to)
    await using expected = await SafetensorsFile.open(fixture(`${name}/expected.safetensors`))
    const images = (await floats(expected, 'image')).map((x) => 2 * x - 1)
    const { indices, prequant } = await tokenizer.encode(images)
    const off = relativeError(prequant, await floats(expected, 'logits'))
    t.true(off < 1e-5, String(off))
    t.deepEqual([...indices], [...(await expected.read('indices'))].map(Number))
    const pictures = (await tokenizer.decode(indices)).map((x) => (x + 1) / 2)
    const error = relativeError(pictures, await floats(expected, 'reconstruction'))
    t.true(error < 1e-5, String(error))
  })
}

test('both halves in one file, under any names, and the size of pictures that is assumed', async (t) => {
  const folder = await temporaryFolder(t)
  const storages = new Storages()
  const state: [string, Py][] = []
  await using file = await SafetensorsFile.open(fixture(`${name}/weights.safetensors`))
  for (const [key, { shape }] of file.tensors) {
    const stored = key.replace('encoder.', 'vae.enc.').replace('decoder.', 'vae.dec.')
    state.push([stored, storages.tensor(storages.add('FloatStorage', await file.readFloat32(key)), shape)])
  }
  const weights = join(folder, 'dalle.pt')
  await writeFile(weights, torchZip(dict({ weights: orderedDict(state) }), storages.all))
  const report = await convertCheckpoint({ weights, to: join(folder, 'dvae') })
  t.like(report, { kind: 'dalle-dvae', prefix: 'weights.vae.', config: { resolution: 256 } })
  t.regex(report.notes[0]!, /resolution 256/)
  await using converted = await SafetensorsFile.open(join(folder, 'dvae/weights.safetensors'))
  t.deepEqual([...converted.tensors.keys()].sort(), [...file.tensors.keys()].sort())
  t.deepEqual(
    await converted.read('decoder.blocks.group_2.block_1.id_path.w'),
    await file.read('decoder.blocks.group_2.block_1.id_path.w'),
  )
})

test('what does not fit is named, and leaves no folder', async (t) => {
  const encoder = await half('encoder')
  const decoder = await half('decoder')
  const incompatible = 'ERR_VILG_CHECKPOINT_INCOMPATIBLE'
  const at = await files(t, encoder, decoder)
  const refuses = async (options: Partial<ConvertOptions>, code: string, message: RegExp) => {
    const all = { weights: at.weights, to: at.to, resolution: 32, ...options }
    await t.throwsAsync(convertCheckpoint(all), { code, message })
    t.deepEqual((await readdir(at.folder)).sort(), ['decoder.pkl', 'encoder.pkl'])
  }
  await refuses({ weights: at.encoder }, incompatible, /found the encoder only; give both files/)
  await refuses({ weights: at.decoder }, incompatible, /found the decoder only/)
  await refuses({ weights: [] }, 'ERR_VILG_INVALID_ARGUMENT', /at least one file for weights/)
  await refuses({ weights: [at.encoder, at.encoder] }, 'ERR_VILG_INVALID_ARGUMENT', /two called encoder/)
  await refuses({ weights: [at.encoder, join(at.folder, 'no.pkl')] }, 'ERR_VILG_IO', /no\.pkl/)
  await refuses({ resolution: 30 }, incompatible, /multiple of 8/)
  const missing: Making = {
    change: (tensors) => void tensors.delete('blocks.group_3.block_2.res_path.conv_4.b'),
  }
  await writeFile(at.decoder, await half('decoder', missing))
  await refuses({}, incompatible, /1 of them missing: blocks\.group_3\.block_2\.res_path\.conv_4\.b/)
  const config = join(at.folder, 'encoder.pkl.yaml')
  await writeFile(at.decoder, decoder)
  await writeFile(config, 'a: 1')
  const withConfig = convertCheckpoint({ weights: at.weights, to: at.to, config })
  await t.throwsAsync(withConfig, { code: incompatible, message: /no configuration file/ })
})

test('the command line takes both files', async (t) => {
  const at = await files(t, await half('encoder'), await half('decoder'))
  const { code, stdout, stderr } = await cli(['convert', '--weights', ...at.weights, '--to', at.to])
  t.is(code, 0, stderr)
  t.regex(stdout, /dalle-dvae, 150 tensors/)
})
