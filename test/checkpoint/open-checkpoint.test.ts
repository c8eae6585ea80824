import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { openCheckpoint, SafetensorsFile, type TensorSource, writeSafetensors } from '../../lib/index.ts'
import { fixture, temporaryFolder } from '../model/helpers.ts'
import { opened } from './helpers.ts'
import { dict, global, newObject, orderedDict, persistent, raw, reduce, tuple } from './writers/pickle.ts'
import { sampleCheckpoint, Storages, torchLegacy, torchZip } from './writers/torch.ts'

const metadata = { epoch: 3, global_step: 10, hyper_parameters: { lr: 4.5e-6, ch_mult: [1, 2], name: 'é中' } }

/** The tensors of test/fixtures/torch/make.py as PyTorch prints them; halves as bit patterns. */
const expected: Record<string, [dtype: string, shape: number[], elements: (number | bigint)[]]> = {
  weight: ['F32', [3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
  tied: ['F32', [4, 3], [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]],
  half: ['F16', [3], [0x3c00, 0xc000, 0x3800]],
  brain: ['BF16', [3], [0x3f80, 0xc000, 0x3f00]],
  double: ['F64', [1], [0.1]],
  long: ['I64', [2], [-1n, 2n ** 60n]],
  int: ['I32', [1], [-7]],
  short: ['I16', [1], [-7]],
  char: ['I8', [1], [-7]],
  byte: ['U8', [1], [7]],
  bool: ['BOOL', [2], [1, 0]],
  scalar: ['F32', [], [2.5]],
  empty: ['F32', [0, 3], []],
  slice: ['F32', [2, 3], [6, 7, 8, 11, 12, 13]],
  parameter: ['F32', [2], [1, 1]],
}

for (const [file, kind] of [
  ['checkpoint-zip.pt', 'torch-zip'],
  ['checkpoint-protocol4.pt', 'torch-zip'],
  ['checkpoint-legacy.pt', 'torch-legacy'],
] as const) {
  test(`PyTorch's own file: ${file}`, async (t) => {
    await using checkpoint = await openCheckpoint(fixture(`torch/${file}`))
    t.is(checkpoint.kind, kind)
    t.deepEqual(checkpoint.metadata, metadata)
    t.deepEqual(
      checkpoint.names,
      Object.keys(expected).map((name) => `state_dict.${name}`),
    )
    for (const [name, [dtype, shape, elements]] of Object.entries(expected)) {
      const full = `state_dict.${name}`
      t.deepEqual(checkpoint.tensors.get(full), { dtype, shape }, name)
      t.deepEqual([...(await checkpoint.read(full))], elements, name)
    }
    t.deepEqual(await checkpoint.readFloat32('state_dict.half'), Float32Array.of(1, -2, 0.5))
    t.deepEqual(await checkpoint.readFloat32('state_dict.brain'), Float32Array.of(1, -2, 0.5))
    t.deepEqual(await checkpoint.readFloat32('state_dict.double'), Float32Array.of(0.1))
    t.deepEqual(await checkpoint.readFloat32('state_dict.long'), Float32Array.of(-1, 2 ** 60))
    t.deepEqual(await checkpoint.readFloat32('state_dict.bool'), Float32Array.of(1, 0))
  })
}

test('a pickled module has the names of its state dict', async (t) => {
  await using checkpoint = await openCheckpoint(fixture('torch/module.pt'))
  t.deepEqual(checkpoint.names, [
    '0.weight',
    '0.bias',
    '1.weight',
    '1.bias',
    '1.running_mean',
    '1.running_var',
    '1.num_batches_tracked',
  ])
  t.deepEqual([...(await checkpoint.read('1.running_var'))], [1, 1, 1])
  const { stub, state } = checkpoint.metadata as { stub: string; state: { _modules: Record<string, object> } }
  t.is(stub, 'torch.nn.modules.container.Sequential')
  t.like(state._modules['0'], { stub: 'torch.nn.modules.linear.Linear', state: { in_features: 2 } })
})

for (const file of ['arrays.npz', 'compressed.npz']) {
  test(`numpy's own file: ${file}`, async (t) => {
    await using checkpoint = await openCheckpoint(fixture(`torch/${file}`))
    t.is(checkpoint.kind, 'npz')
    const read = async (name: string) => [...(await checkpoint.read(name))]
    if (file === 'compressed.npz') {
      t.deepEqual(checkpoint.tensors.get('sigma'), { dtype: 'F64', shape: [4, 4] })
      t.deepEqual(await read('mu'), [0, 1, 2, 3])
      t.deepEqual((await read('sigma')).slice(0, 6), [1, 0, 0, 0, 0, 1])
    } else {
      t.deepEqual(await read('a'), [0, 1, 2, 3, 4, 5])
      t.deepEqual(await read('f'), [0, 1, 2, 3, 4, 5]) // stored column by column
      t.deepEqual(await read('i'), [5n])
      t.deepEqual(checkpoint.tensors.get('i'), { dtype: 'I64', shape: [] })
    }
  })
}

test('a safetensors file gives what its own reader gives', async (t) => {
  const path = fixture('taming-vqgan-tiny/weights.safetensors')
  await using checkpoint = await openCheckpoint(path)
  await using file = await SafetensorsFile.open(path)
  t.is(checkpoint.kind, 'safetensors')
  t.deepEqual(checkpoint.names, [...file.tensors.keys()])
  for (const [name, { dtype, shape }] of file.tensors) {
    t.deepEqual(checkpoint.tensors.get(name), { dtype, shape })
    t.deepEqual(await checkpoint.read(name), await file.read(name), name)
  }
})

test('pieces add up to the tensor, in order or not, and each is its own', async (t) => {
  // rows of 41 columns, so that no piece ends where a row does
  const [rows, columns] = [37, 41]
  const storages = new Storages()
  const data = Float32Array.from({ length: rows * columns + 5 }, (_, i) => i)
  const storage = storages.add('FloatStorage', data)
  const checkpoint = await opened(
    t,
    torchZip(
      dict({
        plain: storages.tensor(storage, [rows, columns], [columns, 1], 5),
        transposed: storages.tensor(storage, [columns, rows], [1, columns], 5),
        permuted: storages.tensor(storage, [37, 1, 41], [1, 999, 37]),
        repeated: storages.tensor(storage, [700, 2], [0, 1], 3),
        steps: storages.tensor(storage, [4, 5], [300, 7], 1),
      }),
      storages.all,
    ),
  )
  const at: Record<string, (i: number) => number> = {
    plain: (i) => i + 5,
    transposed: (i) => (i % rows) * columns + Math.floor(i / rows) + 5,
    permuted: (i) => (i % 41) * 37 + Math.floor(i / 41),
    repeated: (i) => 3 + (i % 2),
    steps: (i) => Math.floor(i / 5) * 300 + (i % 5) * 7 + 1,
  }
  for (const name of checkpoint.names) {
    const length = checkpoint.tensors.get(name)!.shape.reduce((product, dim) => product * dim, 1)
    const wanted = Float32Array.from({ length }, (_, i) => at[name]!(i))
    t.deepEqual(await checkpoint.read(name), wanted, name)
    const pieces: Uint8Array[] = []
    for await (const piece of checkpoint.stream(name, { pieceBytes: 1024 })) {
      t.true(piece.length <= 1024 && piece.length % 4 === 0 && piece.byteOffset === 0)
      pieces.push(piece)
    }
    t.deepEqual(new Float32Array(new Uint8Array(Buffer.concat(pieces)).buffer), wanted, `${name} in pieces`)
  }
})

test('classes of frameworks are names, their parts are read, and nothing of them runs', async (t) => {
  const storages = new Storages()
  const tensor = storages.tensor(storages.add('FloatStorage', Float32Array.of(7)), [1])
  const attributeDict = global('pytorch_lightning.utilities.parsing', 'AttributeDict')
  const root = dict([
    ['hyper_parameters', newObject(attributeDict, undefined, [['n_embed', 8192]])],
    [
      'callbacks',
      dict([[global('pytorch_lightning.callbacks', 'ModelCheckpoint'), dict({ best_model_score: tensor })]]),
    ],
    ['config', newObject(global('omegaconf.dictconfig', 'DictConfig'), dict({ _content: dict({ n: 3 }) }))],
    ['list', newObject(global('some.module', 'Tensors'), undefined, [['k', 1]])],
    ['device', reduce(global('torch', 'device'), tuple('cuda', 0))],
    ['dtype', global('torch', 'float16')],
    ['size', reduce(global('torch', 'Size'), tuple([2, 3]))],
    ['bytes', reduce(global('_codecs', 'encode'), tuple('\u00ff\u0001', 'latin1'))],
    ['set', reduce(global('__builtin__', 'set'), tuple([1, 2]))],
    [
      'counts',
      reduce(global('collections', 'defaultdict'), tuple(global('builtins', 'int')), undefined, [['a', 1]]),
    ],
    ['big', 2n ** 70n],
    ['endless', raw('G', 0x7f, 0xf0, 0, 0, 0, 0, 0, 0)],
    ['__proto__', 'a key like any other'],
    ['optimizer_states', [dict({ state: dict([[0, dict({ step: tensor })]]), groups: [dict({ lr: 1 })] })]],
    ['mixed', [tensor, dict({ a: tensor }), 1]],
    [
      'reduced',
      reduce(
        global('copyreg', '_reconstructor'),
        tuple(global('a', 'B'), global('builtins', 'object'), null),
      ),
    ],
  ])
  const checkpoint = await opened(t, torchZip(root, storages.all))
  t.deepEqual(checkpoint.names, [
    'callbacks.pytorch_lightning.callbacks.ModelCheckpoint.best_model_score',
    'optimizer_states.0.state.0.step',
    'mixed.0',
    'mixed.1.a',
  ])
  const wanted = Object.fromEntries<unknown>([
    ['hyper_parameters', { n_embed: 8192 }],
    ['config', { stub: 'omegaconf.dictconfig.DictConfig', state: { _content: { n: 3 } } }],
    ['list', { stub: 'some.module.Tensors', dict: { k: 1 } }],
    ['device', { stub: 'torch.device', args: ['cuda', 0] }],
    ['dtype', { stub: 'torch.float16' }],
    ['size', [2, 3]],
    ['bytes', { bytes: 2 }],
    ['set', [1, 2]],
    ['counts', { a: 1 }],
    ['big', String(2n ** 70n)],
    ['endless', 'Infinity'],
    ['__proto__', 'a key like any other'],
    ['optimizer_states', [{ groups: [{ lr: 1 }] }]],
    ['mixed', [{ tensor: 'mixed.0' }, {}, 1]],
    ['reduced', { stub: 'a.B', args: [{ stub: 'builtins.object' }, null] }],
  ])
  t.deepEqual(checkpoint.metadata, wanted as never)
  t.is(Object.getPrototypeOf(checkpoint.metadata), Object.prototype)
})

test('tensors of newer kinds: subclasses, and dtypes over untyped storages', async (t) => {
  const storages = new Storages()
  const typed = storages.add('FloatStorage', Float32Array.of(1, 2))
  const untyped = storages.add('UntypedStorage', Uint8Array.of(1, 0, 2, 0))
  const args = tuple(storages.id(typed), 0, tuple(2), tuple(1), false, orderedDict({}))
  const checkpoint = await opened(
    t,
    torchZip(
      dict({
        subclass: reduce(
          global('torch._tensor', '_rebuild_from_type_v2'),
          tuple(global('torch._utils', '_rebuild_tensor_v2'), global('my', 'Tensor'), args, dict({ a: 1 })),
        ),
        unsigned: reduce(
          global('torch._utils', '_rebuild_tensor_v3'),
          tuple(
            persistent(tuple('storage', global('torch.storage', 'UntypedStorage'), untyped.key, 'cpu', 4)),
            0,
            tuple(2),
            tuple(1),
            false,
            orderedDict({}),
            global('torch', 'uint16'),
          ),
        ),
      }),
      storages.all,
    ),
  )
  t.deepEqual(await checkpoint.read('subclass'), Float32Array.of(1, 2))
  t.deepEqual(await checkpoint.read('unsigned'), Uint16Array.of(1, 2))
})

test('a legacy file whose modules came with their source, and a tensor by itself', async (t) => {
  const storages = new Storages({ keys: ['94000001'], legacy: true })
  const tensor = storages.tensor(storages.add('FloatStorage', Float32Array.of(3)), [1])
  const cls = persistent(
    tuple('module', global('dall_e.encoder', 'Encoder'), 'encoder.py', 'class Encoder: ...'),
  )
  const parts = dict({
    _parameters: orderedDict({ w: tensor, b: null }),
    _buffers: orderedDict({}),
    _modules: orderedDict({}),
  })
  const checkpoint = await opened(t, torchLegacy(newObject(cls, parts), storages.all))
  t.deepEqual(checkpoint.names, ['w'])
  t.deepEqual([...(await checkpoint.read('w'))], [3])
  const single = await opened(t, torchLegacy(tensor, storages.all))
  t.deepEqual(single.names, ['tensor'])
})

test('zip64, other folders, no byte order, and what newer versions add', async (t) => {
  const same = async (checkpoint: TensorSource) => {
    t.deepEqual(checkpoint.names.length, Object.keys(expected).length)
    t.deepEqual([...(await checkpoint.read('state_dict.slice'))], expected['slice']![2])
  }
  const storages = new Storages()
  const root = sampleCheckpoint(storages)
  await same(await opened(t, torchZip(root, storages.all, { zip64: true })))
  await same(await opened(t, torchZip(root, storages.all, { folder: 'a b', byteorder: null })))
  const more = [{ name: 'x/code/a.py', data: Buffer.from('import os') }]
  await same(
    await opened(t, torchZip(root, storages.all, { folder: 'x', change: (all) => [...all, ...more] })),
  )
})

test('several files by an index', async (t) => {
  const folder = await temporaryFolder(t)
  await writeSafetensors(join(folder, 'one.safetensors'), [
    { name: 'a', shape: [1], data: Float32Array.of(1) },
  ])
  const storages = new Storages()
  const b = storages.tensor(storages.add('FloatStorage', Float32Array.of(2)), [1])
  await writeFile(join(folder, 'two.bin'), torchZip(dict({ b, unlisted: b }), storages.all))
  const index = join(folder, 'model.safetensors.index.json')
  const map = { a: 'one.safetensors', b: 'two.bin' }
  await writeFile(index, JSON.stringify({ metadata: { total_size: 8 }, weight_map: map }))
  await using checkpoint = await openCheckpoint(index)
  t.is(checkpoint.kind, 'sharded')
  t.deepEqual(checkpoint.names, ['a', 'b'])
  t.deepEqual([...(await checkpoint.read('a')), ...(await checkpoint.read('b'))], [1, 2])

  const bad: [unknown, RegExp][] = [
    [undefined, /weight_map/],
    [[], /weight_map/],
    [{ a: '../one.safetensors' }, /names of files beside it.*\.\.\//],
    [{ a: '/etc/passwd' }, /names of files beside it/],
    [{ a: '..' }, /names of files beside it/],
    [{ a: 5 }, /names of files beside it/],
    [{ a: 'model.safetensors.index.json' }, /names of files beside it/],
    [{ a: 'two.bin' }, /tensor a in .*two\.bin, found none/],
  ]
  for (const [weightMap, text] of bad) {
    await writeFile(index, JSON.stringify({ weight_map: weightMap }))
    await t.throwsAsync(openCheckpoint(index), { code: 'ERR_VILG_CHECKPOINT_FORMAT', message: text })
  }
  await writeFile(index, JSON.stringify({ weight_map: { a: 'missing.bin' } }))
  await t.throwsAsync(openCheckpoint(index), { code: 'ERR_VILG_IO', message: /missing\.bin/ })
})

test('arguments, missing tensors, aborts, and use after close', async (t) => {
  const path = fixture('torch/checkpoint-zip.pt')
  await t.throwsAsync(openCheckpoint(5 as never), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  await t.throwsAsync(openCheckpoint(path, { check: true } as never), { message: /unknown key "check"/ })
  await t.throwsAsync(openCheckpoint(`${path}x`), { code: 'ERR_VILG_IO', message: /no such file/ })
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'sub'))
  await t.throwsAsync(openCheckpoint(join(folder, 'sub')), { code: 'ERR_VILG_IO', message: /directory/ })

  const checkpoint = await openCheckpoint(path)
  await t.throwsAsync(checkpoint.read('nothing'), {
    code: 'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    message: /expected a tensor nothing/,
  })
  const name = 'state_dict.weight'
  await t.throwsAsync(checkpoint.read(name, { signal: AbortSignal.abort(new Error('no')) }), {
    message: 'no',
  })
  await t.throwsAsync(checkpoint.stream(name, { pieceBytes: 1 }).next(), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
  })
  const streaming = checkpoint.stream(name)
  await checkpoint.close()
  await t.throwsAsync(checkpoint.read(name), { code: 'ERR_VILG_DISPOSED' })
  await t.throwsAsync(streaming.next(), { code: 'ERR_VILG_DISPOSED' })
})

test('checksums find what has changed in weights and pickles', async (t) => {
  const good = await readFile(fixture('torch/checkpoint-zip.pt'))
  const at = good.indexOf(Buffer.from(Float32Array.of(4, 5, 6).buffer))
  const bad = Buffer.from(good)
  bad[at]! ^= 1
  const checkpoint = await opened(t, bad)
  await t.throwsAsync(checkpoint.read('state_dict.weight'), {
    code: 'ERR_VILG_CHECKPOINT_FORMAT',
    message: /state_dict\.weight: expected data of the checksum .* damaged/,
  })
  const unchecked = await openCheckpoint(checkpoint.path, { checksums: false })
  t.teardown(() => unchecked.close())
  t.is((await unchecked.read('state_dict.weight')).length, 12)

  const pickle = Buffer.from(good)
  pickle[good.indexOf('epoch')]! ^= 1
  await t.throwsAsync(opened(t, pickle), { message: /record checkpoint-zip\/data\.pkl as its checksum says/ })
})
