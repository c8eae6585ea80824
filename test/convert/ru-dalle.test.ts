import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  convertCheckpoint,
  type ConvertOptions,
  type Device,
  Generator,
  SafetensorsFile,
  type TensorSource,
} from '../../lib/index.ts'
import { openImageSession } from '../../lib/model/sessions.ts'
import { orderedDict, type Py } from '../checkpoint/writers/pickle.ts'
import { Storages, torchLegacy, torchZip } from '../checkpoint/writers/torch.ts'
import {
  devices,
  fixture,
  floats,
  logProbability,
  randomFrom,
  refuses,
  relativeError,
  temporaryFolder,
} from '../model/helpers.ts'
import { type ReferenceConfig, ruDalleLogits } from './ru-dalle-reference.ts'

const incompatible = 'ERR_VILG_CHECKPOINT_INCOMPATIBLE'

/** A model's weights by ru-dalle's names, with the shapes of the file. */
type State = Map<string, { shape: readonly number[]; data: Float32Array }>

const shared: ReferenceConfig = {
  layers: 6,
  heads: 4,
  textLength: 8,
  textVocab: 40,
  grid: 4,
  version: 'v3',
}
const imageVocab = 24

/** The fixture's weights, which are a state dict of ru-dalle's own code. */
async function fixtureState(): Promise<State> {
  await using file = await SafetensorsFile.open(fixture('rudalle-tiny/weights.safetensors'))
  const state: State = new Map()
  for (const [name, { shape }] of file.tensors) state.set(name, { shape, data: await file.readFloat32(name) })
  return state
}

/** Random weights of another size, a grid that the window of 11 does not fill: rows, columns and a window. */
const larger: ReferenceConfig = { ...shared, layers: 4, heads: 2, grid: 13 }
async function largerState(): Promise<State> {
  const random = randomFrom(11)
  const state: State = new Map()
  for (const [name, { shape }] of await fixtureState()) {
    if (/layers\.[45]\./.test(name)) continue
    const resized = /image_(row|col)/.test(name) ? [larger.grid, shape[1]!] : shape
    const length = resized.reduce((product, dim) => product * dim, 1)
    const scale = shape.length > 1 ? 0.4 : /norm|to_logits\.0/.test(name) && name.endsWith('weight') ? 1 : 0.1
    const data = Float32Array.from({ length }, () => scale * (random() - 0.5) + (scale === 1 ? 1 : 0))
    state.set(name, { shape: resized, data })
  }
  return state
}

const weightsOf = (state: State) => new Map([...state].map(([name, { data }]) => [name, data]))

interface Written {
  folder: string
  weights: string
  to: string
  config: string
}

/** A file of torch.save(state_dict), as the public ones are, and a configuration by the names of ru-dalle's code. */
async function write(
  t: ExecutionContext,
  state: State,
  config: Record<string, unknown>,
  legacy = false,
): Promise<Written> {
  const folder = await temporaryFolder(t)
  const storages = new Storages({ legacy })
  const tensors = [...state].map(([name, { shape, data }]): [string, Py] => [
    name,
    storages.tensor(storages.add('FloatStorage', data), shape),
  ])
  const root = orderedDict(tensors)
  const at = {
    folder,
    weights: join(folder, 'pytorch_model.bin'),
    to: join(folder, 'generator'),
    config: join(folder, 'model.json'),
  }
  await writeFile(at.weights, legacy ? torchLegacy(root, storages.all) : torchZip(root, storages.all))
  await writeFile(at.config, JSON.stringify(config))
  return at
}

async function converted(
  t: ExecutionContext,
  state: State,
  { heads, version }: ReferenceConfig,
): Promise<string> {
  const at = await write(t, state, { num_attention_heads: heads, hf_version: version })
  await convertCheckpoint({ weights: at.weights, config: at.config, to: at.to })
  return at.to
}

async function load(t: ExecutionContext, folder: string, device: Device): Promise<Generator> {
  const generator = await Generator.load(folder, { device })
  t.teardown(() => generator.dispose())
  return generator
}

/** The image logits of a pair that predict its image tokens, by the reference. */
function imageLogits(
  state: State,
  config: ReferenceConfig,
  text: ArrayLike<number>,
  image: ArrayLike<number>,
): number[] {
  const all = ruDalleLogits(weightsOf(state), config, Array.from(text), Array.from(image))
  const first = config.version === 'v2' ? config.textLength : config.textLength - 1
  return all.slice(first, first + config.grid ** 2).flatMap((row) => [...row.subarray(config.textVocab)])
}

// Texts end in PAD, which is id 0 and is seen
const texts = Int32Array.of(2, 9, 4, 3, 0, 0, 0, 0, 2, 5, 31, 11, 7, 30, 6, 3)

test('the reference is the one of the fixture', async (t) => {
  await using expected = await SafetensorsFile.open(fixture('rudalle-tiny/expected.safetensors'))
  const logits = await floats(expected, 'logits')
  const text = Array.from(await expected.read('text'), Number)
  const image = Array.from(await expected.read('image'), Number)
  const weights = weightsOf(await fixtureState())
  for (const pair of [0, 1]) {
    const found = ruDalleLogits(
      weights,
      shared,
      text.slice(8 * pair, 8 * pair + 8),
      image.slice(16 * pair, 16 * pair + 16),
    )
    const error = relativeError(
      found.flatMap((row) => [...row]),
      logits.subarray(pair * 24 * 64, (pair + 1) * 24 * 64),
    )
    t.true(error < 1e-6, String(error))
  }
})

for (const device of devices) {
  test(`${device}: the logits of the fixture, from the files of its code`, async (t) => {
    const settings = JSON.parse(await readFile(fixture('rudalle-tiny/config.json'), 'utf8')) as Record<
      string,
      unknown
    >
    for (const legacy of [false, true]) {
      const at = await write(t, await fixtureState(), settings, legacy)
      const report = await convertCheckpoint({ weights: at.weights, config: at.config, to: at.to })
      t.like(report, { kind: 'ru-dalle', prefix: '', unused: [], notes: [] })
      t.like(report.config, {
        layers: 6,
        textLength: 8,
        textVocab: 40,
        imageStart: 'text',
        repeatedStart: false,
        paddingIds: 32,
        attention: ['row', 'column', 'row', 'row', 'row', 'column'],
      })
      const generator = await load(t, at.to, device)
      await using expected = await SafetensorsFile.open(fixture('rudalle-tiny/expected.safetensors'))
      const text = Int32Array.from(await expected.read('text'), Number)
      const image = Int32Array.from(await expected.read('image'), Number)
      const batch = { text, textValid: new Uint8Array(text.length).fill(1), image }
      const { logits } = await generator.forward(batch, { direction: 'text-to-image' })
      const all = await floats(expected, 'logits')
      const wanted: number[] = []
      for (let pair = 0; pair < 2; pair++) {
        for (let p = 7; p < 23; p++) {
          const row = (pair * 24 + p) * 64
          wanted.push(...all.subarray(row + 40, row + 64))
        }
      }
      const error = relativeError(logits, wanted)
      t.true(error < 1e-5, String(error))
    }
  })

  for (const version of ['v2', 'v3'] as const) {
    test(`${device}: ${version}, at once and token by token`, async (t) => {
      const config = { ...larger, version }
      const state = await largerState()
      const generator = await load(t, await converted(t, state, config), device)
      const n = config.grid ** 2
      const random = randomFrom(3)
      const image = Int32Array.from({ length: n }, () => Math.floor(random() * imageVocab))
      // what is no valid text token is a token like any other
      const text = texts.slice(0, 8)
      const textValid = Uint8Array.from(text, (id) => (id === 0 ? 0 : 1))
      const { logits } = await generator.forward({ text, textValid, image }, { direction: 'text-to-image' })
      const error = relativeError(logits, imageLogits(state, config, text, image))
      t.true(error < 1e-5, String(error))

      const draw = { seed: 5, temperature: 1, topK: 0, topP: 1 }
      const session = openImageSession(generator, text, textValid, 2, 0, draw)
      let step = await session.step(1)
      while (step.position < n) step = await session.step(40)
      session.dispose()
      const drawn = step.tokens.subarray(n)
      const scores = Float32Array.from(imageLogits(state, config, text, drawn))
      let sum = 0
      drawn.forEach((token, p) => (sum += logProbability(scores, p * imageVocab, imageVocab, token)))
      // 169 tokens of about 3 nats, each off by the 1e-5 of its logits at most
      t.true(Math.abs(step.logProbabilities[1]! - sum) < 2e-3, `${step.logProbabilities[1]}, not ${sum}`)
    })
  }
}

test('gradients are those of the loss, and there is no way back from a picture', async (t) => {
  const generator = await load(t, await converted(t, await fixtureState(), shared), 'cpu')
  const image = Int32Array.from({ length: 16 }, (_, p) => (5 * p) % imageVocab)
  const batch = { text: texts.slice(0, 8), textValid: new Uint8Array(8).fill(1), image }
  const { gradients } = await generator.gradients(batch, { direction: 'text-to-image' })
  t.false(gradients.has('image_start'))
  t.false(gradients.has('modality.weight'))
  // the id of PAD at position 4 is 32 + 4, and id 0 is never seen
  const ofId = (id: number) => gradients.get('text_embedding.weight')!.subarray(32 * id, 32 * id + 32)
  t.true(ofId(36).some((x) => x !== 0))
  t.true(ofId(0).every((x) => x === 0))
  await refuses(
    t,
    generator.forward(batch, { direction: 'image-to-text' }),
    'ERR_VILG_UNSUPPORTED',
    'only draws',
  )
})

test('what the weights do not say is known of public models, or asked for', async (t) => {
  const state = await fixtureState()
  const at = await write(t, state, {})
  const refusal = convertCheckpoint({ weights: at.weights, to: at.to })
  await t.throwsAsync(refusal, { code: incompatible, message: /num_attention_heads .* 32 hidden units/ })
  await writeFile(at.config, '{"num_attention_heads": 4}')
  const report = await convertCheckpoint({ weights: at.weights, to: at.to, config: at.config })
  t.is(report.notes.length, 1)
  t.regex(report.notes[0]!, /hf_version v3/)
})

test('what does not fit is named, and leaves no folder', async (t) => {
  const good = { num_attention_heads: 4, hf_version: 'v3' }
  const refuse = async (
    state: State,
    config: Record<string, unknown>,
    message: RegExp,
    options: Partial<ConvertOptions> = {},
  ) => {
    const at = await write(t, state, config)
    const all = { weights: at.weights, config: at.config, to: at.to, ...options }
    await t.throwsAsync(convertCheckpoint(all), { code: incompatible, message })
    t.deepEqual((await readdir(at.folder)).sort(), ['model.json', 'pytorch_model.bin'])
  }
  const state = await fixtureState()
  await refuse(state, { ...good, num_layers: 5 }, /num_layers 6 .* found 5/)
  await refuse(state, { ...good, hf_version: 'v1' }, /hf_version.*v1/)
  await refuse(state, { ...good, num_attention_heads: 5 }, /multiple of heads/)
  const without = new Map(state)
  without.delete('transformer.layers.3.mlp.dense_4h_to_h.bias')
  await refuse(without, good, /1 of them missing: transformer\.layers\.3\.mlp\.dense_4h_to_h\.bias/)
  const other = new Map(state)
  other.set('to_logits.1.bias', { shape: [63], data: new Float32Array(63) })
  await refuse(other, good, /to_logits\.1\.bias: expected shape \[64\].*found \[63\]/)
})

test('rows of a tensor come out whole from pieces of any size', async (t) => {
  const { planTensors } = await import('../../lib/convert/plan-tensors.ts')
  const data = Uint8Array.from({ length: 40 }, (_, i) => i)
  const source = {
    path: 'a file',
    tensors: new Map([['a', { dtype: 'F32', shape: [5, 2] }]]),
    async *stream() {
      for (const size of [4, 12, 8, 16]) {
        const at = [4, 12, 8, 16].slice(0, [4, 12, 8, 16].indexOf(size)).reduce((sum, one) => sum + one, 0)
        yield data.slice(at, at + size)
      }
    },
  } as unknown as TensorSource
  const rows = (first: number, end: number) => ({ name: 'a', first, end })
  const [tensor] = planTensors(source, {
    config: {},
    notes: [],
    tensors: new Map([['b', [rows(3, 5), rows(0, 1)]]]),
  })
  t.deepEqual(tensor!.shape, [3, 2])
  const pieces: number[] = []
  for await (const piece of tensor!.pieces()) pieces.push(...piece)
  t.deepEqual(pieces, [...data.subarray(24, 40), ...data.subarray(0, 8)])
})
