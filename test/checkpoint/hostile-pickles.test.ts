import test from 'ava'
import { type ErrorCode } from '../../lib/index.ts'
import { opened, refused } from './helpers.ts'
import {
  dict,
  global,
  newObject,
  orderedDict,
  persistent,
  type Py,
  raw,
  reduce,
  tuple,
  uint32,
} from './writers/pickle.ts'
import { Storages, torchLegacy, torchZip } from './writers/torch.ts'

const format: ErrorCode = 'ERR_VILG_CHECKPOINT_FORMAT'
const unsupported: ErrorCode = 'ERR_VILG_UNSUPPORTED'

const two = { type: 'FloatStorage', data: Float32Array.of(1, 2) }

/** A zip file of a tensor whose parts are given. */
function tensorFile(
  size: Py,
  stride: Py,
  { offset = 0 as Py, storage = undefined as Py | undefined, rebuild = '_rebuild_tensor_v2' } = {},
): Uint8Array {
  const storages = new Storages()
  const floats = storages.add(two.type, two.data)
  const args = tuple(storage ?? storages.id(floats), offset, size, stride, false, orderedDict({}))
  return torchZip(dict({ a: reduce(global('torch._utils', rebuild), args) }), storages.all)
}

const id = (...items: Py[]): Py => persistent(tuple(...items))

test('names by which Python would run code are refused by name, in every way to say them', async (t) => {
  const call = (module: string, name: string) => reduce(global(module, name), tuple('touch /tmp/owned'))
  const stackGlobal = raw(0x8c, 2, 'os', 0x8c, 6, 'system', 0x93, 0x8c, 2, 'id', 0x85, 'R')
  const cases: [Py, string][] = [
    [call('os', 'system'), 'os.system'],
    [call('posix', 'system'), 'posix.system'],
    [call('subprocess', 'Popen'), 'subprocess.Popen'],
    [call('builtins', 'eval'), 'builtins.eval'],
    [call('__builtin__', 'exec'), '__builtin__.exec'],
    [call('builtins', 'getattr'), 'builtins.getattr'],
    [call('builtins', '__import__'), 'builtins.__import__'],
    [call('importlib', 'import_module'), 'importlib.import_module'],
    [call('os.path', 'join'), 'os.path.join'],
    [call('pickle', 'loads'), 'pickle.loads'],
    [stackGlobal, 'os.system'],
    [dict({ state_dict: orderedDict({}), hidden: [tuple(global('os', 'system'))] }), 'os.system'],
    [newObject(global('argparse', 'Namespace'), dict({ f: global('sys', 'exit') })), 'sys.exit'],
    [reduce(global('functools', 'partial'), tuple(global('os', 'system'), 'id')), 'os.system'],
  ]
  for (const [root, name] of cases) {
    const error = await refused(t, torchZip(root, []), unsupported, /Nothing was run/, name)
    t.is(error?.details?.['name'], name)
    await refused(t, torchLegacy(root, []), unsupported, /Nothing was run/, `${name}, legacy`)
  }
})

test('shapes, strides and offsets that lie', async (t) => {
  const cases: [what: string, bytes: Uint8Array, text: RegExp][] = [
    ['2^40 elements', tensorFile(tuple(2 ** 40), tuple(1)), /reaches element 1099511627775/],
    ['2^40 times one element', tensorFile(tuple(2 ** 40), tuple(0)), /repeats them/],
    ['2^20 times 2', tensorFile(tuple(2 ** 20, 2), tuple(0, 1)), /repeats them/],
    ['a product of 2^80', tensorFile(tuple(2 ** 40, 2 ** 40), tuple(0, 0)), /less than 2\^53/],
    [
      'a product hidden by its order',
      tensorFile(tuple(2 ** 40, 2 ** 40, 0), tuple(0, 0, 0), { offset: 3 }),
      /within its storage/,
    ],
    ['2^60 elements', tensorFile(tuple(2n ** 60n), tuple(0)), /sizes from 0 to 2\^53/],
    ['a negative size', tensorFile(tuple(-1), tuple(1)), /sizes from 0/],
    ['a negative size beside a zero', tensorFile(tuple(0, -1), tuple(1, 1)), /sizes from 0/],
    ['a size of text', tensorFile(tuple('2'), tuple(1)), /sizes from 0/],
    ['a negative stride', tensorFile(tuple(2), tuple(-1), { offset: 1 }), /strides and offset from 0/],
    ['a stride beyond everything', tensorFile(tuple(2), tuple(2n ** 62n)), /strides and offset/],
    ['strides whose sum overflows', tensorFile(tuple(2, 2), tuple(2 ** 52, 2 ** 52)), /within its storage/],
    ['a negative offset', tensorFile(tuple(1), tuple(1), { offset: -1 }), /strides and offset/],
    ['an offset at the end', tensorFile(tuple(1), tuple(1), { offset: 2 }), /reaches element 2/],
    ['a view over the end', tensorFile(tuple(2), tuple(2)), /reaches element 2/],
    ['more strides than sizes', tensorFile(tuple(2), tuple(1, 1)), /a stride a dimension/],
    ['no tuple', tensorFile([2], tuple(1)), /tuples for size and stride/],
    [
      '65 dimensions',
      tensorFile(tuple(...Array<number>(65).fill(1)), tuple(...Array<number>(65).fill(1))),
      /64 dimensions/,
    ],
  ]
  for (const [what, bytes, text] of cases) await refused(t, bytes, format, text, what)
  // a million elements of one is what public files have of masks
  const small = await opened(t, tensorFile(tuple(2 ** 19, 2), tuple(0, 1)))
  t.is((await small.read('a')).length, 2 ** 20)
})

test('storages that lie', async (t) => {
  const one = tuple(1)
  const storage = (...items: Py[]) => tensorFile(one, one, { storage: id(...items) })
  const float = global('torch', 'FloatStorage')
  const cases: [what: string, bytes: Uint8Array, code: ErrorCode, text: RegExp][] = [
    [
      'another length than the record',
      storage('storage', float, '0', 'cpu', 3),
      format,
      /12 bytes for storage 0 .*found 8/,
    ],
    ['2^53 elements', storage('storage', float, '0', 'cpu', 2 ** 53 - 1), format, /less than 2\^53 bytes/],
    ['a negative length', storage('storage', float, '0', 'cpu', -1), format, /length from 0/],
    [
      'no such record',
      storage('storage', float, '7', 'cpu', 2),
      format,
      /record archive\/data\/7 in the file/,
    ],
    [
      'a key with a path',
      storage('storage', float, '../../data.pkl', 'cpu', 2),
      format,
      /letters and digits/,
    ],
    ['a number as a key', storage('storage', float, 0, 'cpu', 2), format, /letters and digits/],
    ['no type', storage('storage', 'FloatStorage', '0', 'cpu', 2), format, /type of a storage/],
    [
      'a type of elsewhere',
      storage('storage', global('os.path', 'x'), '0', 'cpu', 2),
      unsupported,
      /os\.path/,
    ],
    [
      'a type that every object has',
      storage('storage', global('torch', 'constructor'), '0', 'cpu', 2),
      unsupported,
      /torch\.constructor/,
    ],
    [
      'complex numbers',
      storage('storage', global('torch', 'ComplexFloatStorage'), '0', 'cpu', 2),
      unsupported,
      /ComplexFloatStorage/,
    ],
    ['few items', storage('storage', float, '0'), format, /5 or 6 items/],
    ['another kind', storage('tensor', float, '0', 'cpu', 2), format, /id of a storage/],
    [
      'a view of a storage',
      storage('storage', float, '0', 'cpu', 2, tuple('1', 0, 2)),
      unsupported,
      /no views/,
    ],
    [
      'bytes without a dtype',
      storage('storage', global('torch', 'UntypedStorage'), '0', 'cpu', 8),
      format,
      /found one of bytes/,
    ],
    ['an id that is no tuple', torchZip(persistent('0'), []), format, /a tuple for BINPERSID/],
    [
      'a tensor of a list',
      tensorFile(one, one, { storage: [1, 2] }),
      format,
      /a storage for a tensor, found a list/,
    ],
    [
      'a sparse tensor',
      tensorFile(one, one, { rebuild: '_rebuild_sparse_tensor' }),
      unsupported,
      /dense.*_rebuild_sparse_tensor/,
    ],
    [
      'a parameter of nothing',
      torchZip(reduce(global('torch._utils', '_rebuild_parameter'), tuple(null)), []),
      format,
      /tensor for a parameter/,
    ],
    [
      'a tensor without a file',
      torchZip(reduce(global('torch.storage', '_load_from_bytes'), tuple('x')), []),
      unsupported,
      /torch\.save/,
    ],
  ]
  for (const [what, bytes, code, text] of cases) await refused(t, bytes, code, text, what)

  const storages = new Storages()
  const a = storages.add(two.type, two.data)
  const again = { ...a, type: 'IntStorage' }
  const both = dict({ a: storages.tensor(a, [2]), b: storages.tensor(again, [2]) })
  await refused(t, torchZip(both, storages.all), format, /storage 0 to be the same everywhere/)
})

test('pickles that are none, deep, endless, or cyclic', async (t) => {
  const deep = (levels: number) =>
    raw(...Array<string>(levels).fill(']'), ...Array<string>(levels - 1).fill('a'))
  // each list has the one before twice: 2^40 places of 40 objects
  const doubling = raw(
    ...[']', 0x71, 0, '0'],
    ...Array.from({ length: 40 }, (_, i) => [']', 0x71, i + 1, 'h', i, 'a', 'h', i, 'a', '0']).flat(),
    ...['h', 40],
  )
  const manyDicts = Buffer.alloc(2 ** 21, '}0')
  const cases: [what: string, root: Py | Uint8Array, code: ErrorCode, text: RegExp][] = [
    ['empty', new Uint8Array(), format, /ends with STOP/],
    ['no STOP', Buffer.from('\x80\x02}', 'latin1'), format, /ends with STOP/],
    ['nothing on the stack', Buffer.from('\x80\x02.', 'latin1'), format, /1 values on the stack/],
    ['two values', Buffer.from('\x80\x02}}.', 'latin1'), format, /one object/],
    ['a mark left', Buffer.from('\x80\x02(}.', 'latin1'), format, /one object/],
    ['no mark', Buffer.from('\x80\x02u.', 'latin1'), format, /mark on the stack/],
    ['reaching below a mark', Buffer.from('\x80\x02}(0.', 'latin1'), format, /on the stack/],
    ['a dict of one', Buffer.from('\x80\x02}(}u.', 'latin1'), format, /key without value/],
    ['an unknown opcode', Buffer.from('\x80\x02\xff.', 'latin1'), format, /byte 0xff/],
    ['the text protocol', Buffer.from('I1\n.'), unsupported, /INT of the text protocol/],
    ['an extension code', Buffer.from('\x80\x02\x82\x01.', 'latin1'), unsupported, /EXT1/],
    ['protocol 9', Buffer.from('\x80\x09}.', 'latin1'), unsupported, /protocol 2 to 5, found 9/],
    [
      'a string of 4 GB',
      Buffer.concat([Buffer.from('\x80\x02X', 'latin1'), uint32(2 ** 32 - 1), Buffer.from('x.')]),
      format,
      /STOP/,
    ],
    ['an object never made', Buffer.from('\x80\x02h\x05.', 'latin1'), format, /numbered 5/],
    [
      'an integer of 300 bytes',
      Buffer.concat([
        Buffer.from('\x80\x02\x8b', 'latin1'),
        uint32(300),
        Buffer.alloc(300, 1),
        Buffer.from('.'),
      ]),
      format,
      /at most 256 bytes/,
    ],
    ['text that is no UTF-8', Buffer.from('\x80\x02X\x01\0\0\0\xff.', 'latin1'), format, /UTF-8/],
    [
      'calling a string',
      raw('U', 1, 'x', ')', 'R'),
      format,
      /name of a class or function for REDUCE .*found a string/,
    ],
    ['calling with a list', raw('c', 'a\nb\n', ']', 'R'), format, /tuple of arguments/],
    ['items of a number', raw('K', 1, '(', 'K', 1, 'K', 2, 'u'), format, /a dict for SETITEMS/],
    ['a name of controls', raw('c', 'a\u0007\nb\n'), format, /name of a class/],
    ['a name of 600 characters', raw('c', `${'a'.repeat(600)}\nb\n`), format, /name of a class/],
    ['10,000 levels', deep(10_000), unsupported, /200 levels/],
    ['2^40 places', doubling, unsupported, /many times over/],
    [
      'a million dicts',
      Buffer.concat([Buffer.from('\x80\x02', 'latin1'), manyDicts, Buffer.from('}.')]),
      unsupported,
      /memory bomb/,
    ],
  ]
  for (const [what, root, code, text] of cases) await refused(t, torchZip(root, []), code, text, what)
  const cyclic = await opened(t, torchZip(raw(']', 0x71, 0, 'h', 0, 'a'), []))
  t.deepEqual(cyclic.metadata, [{ stub: 'circular' }])
})

test('work that pickles ask for many times is counted', async (t) => {
  // a list of 4096 elements, made into a set again and again: more elements than the pickle has bytes
  const list = Buffer.from(`\x80\x02](${'N'.repeat(4096)}e\x71\x00`, 'latin1')
  const again = Buffer.from(`(c__builtin__\nset\n\x71\x01${'h\x01h\x00\x85R0'.repeat(5000)}`, 'latin1')
  await refused(
    t,
    torchZip(Buffer.concat([list, again, Buffer.from('10].')]), []),
    unsupported,
    /memory bomb/,
  )
})

test('two tensors of one name', async (t) => {
  const storages = new Storages()
  const tensor = storages.tensor(storages.add(two.type, two.data), [2])
  const root = dict({ 'a.b': tensor, a: dict({ b: tensor }) })
  await refused(t, torchZip(root, storages.all), format, /two tensors called a\.b/)
})
