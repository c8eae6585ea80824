import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import {
  openCheckpoint,
  SafetensorsFile,
  type StreamedTensor,
  streamedTensor,
  streamSafetensors,
  writeSafetensors,
} from '../../lib/index.ts'
import { fixture, temporaryFolder } from '../model/helpers.ts'

const streamed = (
  name: string,
  dtype: StreamedTensor['dtype'],
  shape: number[],
  ...pieces: Uint8Array[]
) => ({
  name,
  dtype,
  shape,
  pieces: async function* () {
    yield* pieces
  },
})
const bytesOf = (data: ArrayBufferView) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

test('every tensor of a PyTorch file, kept or as float32', async (t) => {
  const folder = await temporaryFolder(t)
  await using checkpoint = await openCheckpoint(fixture('torch/checkpoint-zip.pt'))
  for (const dtype of ['keep', 'float32'] as const) {
    const path = join(folder, dtype)
    const fractions: number[] = []
    await streamSafetensors(
      path,
      checkpoint.names.map((name) =>
        streamedTensor(checkpoint, name, { name: name.replace('state_dict.', ''), dtype }),
      ),
      { metadata: new Map([['from', 'torch']]), onProgress: ({ fraction }) => fractions.push(fraction) },
    )
    t.is(fractions.at(-1), 1)
    await using file = await SafetensorsFile.open(path)
    t.deepEqual([...file.metadata], [['from', 'torch']])
    t.is(file.tensors.size, checkpoint.names.length)
    for (const [name, info] of file.tensors) {
      const from = `state_dict.${name}`
      const { dtype: stored, shape } = checkpoint.tensors.get(from)!
      t.is(info.dtype, dtype === 'keep' ? stored : 'F32', name)
      t.deepEqual(info.shape, [...shape])
      const wanted = dtype === 'keep' ? await checkpoint.read(from) : await checkpoint.readFloat32(from)
      t.deepEqual(await file.read(name), wanted, name)
    }
  }
  t.deepEqual((await readdir(folder)).sort(), ['float32', 'keep'])
})

test('the same file as the writer of tensors in memory makes', async (t) => {
  const folder = await temporaryFolder(t)
  const data = Float32Array.of(1, 2, 3, 4)
  const bytes = Uint8Array.of(1, 2, 3)
  const metadata = new Map([
    ['b', 'é"'],
    ['a', '1'],
  ])
  await writeSafetensors(
    join(folder, 'a'),
    [
      { name: '10', dtype: 'U8', shape: [3], data: bytes },
      { name: 'é', shape: [4], data },
      { name: '2', shape: [0, 2], data: new Float32Array(0) },
    ],
    { metadata },
  )
  await streamSafetensors(
    join(folder, 'b'),
    [
      streamed('é', 'F32', [4], bytesOf(data).subarray(0, 7), bytesOf(data).subarray(7)),
      streamed('2', 'F32', [0, 2]),
      streamed('10', 'U8', [3], bytes),
    ],
    { metadata },
  )
  // spaces in shapes aside
  const text = async (name: string) =>
    (await readFile(join(folder, name))).toString('latin1').slice(8).replace(/ /g, '')
  t.is(await text('b'), await text('a'))
})

test('what fails leaves the old file, and nothing beside it', async (t) => {
  const folder = await temporaryFolder(t)
  const path = join(folder, 'a.safetensors')
  const good = streamed('a', 'U8', [2], Uint8Array.of(1, 2))
  await streamSafetensors(path, [good])
  const before = await readFile(path)
  const broken = {
    ...good,
    pieces: async function* () {
      yield Uint8Array.of(1)
      throw new Error('the source broke')
    },
  }
  const stopping = new AbortController()
  const stopped = {
    ...good,
    pieces: async function* () {
      yield Uint8Array.of(1)
      stopping.abort(new Error('stopped'))
      yield Uint8Array.of(2)
    },
  }
  const bad: [StreamedTensor[], object, object][] = [
    [
      [streamed('a', 'U8', [2], Uint8Array.of(1))],
      {},
      { code: 'ERR_VILG_SHAPE_MISMATCH', message: /2 bytes .* received 1/ },
    ],
    [
      [streamed('a', 'U8', [2], new Uint8Array(3))],
      {},
      { code: 'ERR_VILG_SHAPE_MISMATCH', message: /more than 2/ },
    ],
    [[good, good], {}, { code: 'ERR_VILG_INVALID_ARGUMENT', message: /each name once/ }],
    [[{ ...good, name: '' }], {}, { code: 'ERR_VILG_INVALID_ARGUMENT', message: /tensor name/ }],
    [[{ ...good, name: '__metadata__' }], {}, { code: 'ERR_VILG_INVALID_ARGUMENT' }],
    [[{ ...good, name: '\ud800' }], {}, { code: 'ERR_VILG_INVALID_ARGUMENT' }],
    [[{ ...good, dtype: 'F8' as never }], {}, { code: 'ERR_VILG_INVALID_ARGUMENT', message: /dtype of a/ }],
    [[{ ...good, shape: [-1] }], {}, { code: 'ERR_VILG_INVALID_ARGUMENT' }],
    [
      [{ ...good, shape: [2 ** 40, 2 ** 40] }],
      {},
      { code: 'ERR_VILG_INVALID_ARGUMENT', message: /2\^53 bytes/ },
    ],
    [[good], { metadata: new Map([['a', 5]]) }, { code: 'ERR_VILG_INVALID_ARGUMENT' }],
    [[good], { verbose: true }, { code: 'ERR_VILG_INVALID_ARGUMENT', message: /verbose/ }],
    [[broken], {}, { message: 'the source broke' }],
    [[stopped], { signal: stopping.signal }, { message: 'stopped' }],
    [[good], { onProgress: () => { throw new Error('enough') } }, { message: 'enough' }], // prettier-ignore
  ]
  for (const [tensors, options, expected] of bad) {
    await t.throwsAsync(streamSafetensors(path, tensors, options), expected)
    t.deepEqual(await readFile(path), before)
    t.deepEqual(await readdir(folder), ['a.safetensors'])
  }
  await t.throwsAsync(streamSafetensors(join(folder, 'no', 'such'), [good]), { code: 'ERR_VILG_IO' })
})

test('tensors that are not there, or not readable', async (t) => {
  await using checkpoint = await openCheckpoint(fixture('torch/checkpoint-zip.pt'))
  t.throws(() => streamedTensor(checkpoint, 'weight'), {
    code: 'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    message: /tensor weight/,
  })
  t.throws(() => streamedTensor(checkpoint, 'state_dict.weight', { dtype: 'int8' as never }), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
  })
})
