import { readFile } from 'node:fs/promises'
import test from 'ava'
import type { ErrorCode } from '../../lib/index.ts'
import { fixture } from '../model/helpers.ts'
import { opened, refused } from './helpers.ts'
import { persistent, tuple } from './writers/pickle.ts'
import { legacyMachine, sampleCheckpoint, Storages, torchLegacy, torchZip } from './writers/torch.ts'
import { zip, type ZipRecord } from './writers/zip.ts'

const format: ErrorCode = 'ERR_VILG_CHECKPOINT_FORMAT'
const unsupported: ErrorCode = 'ERR_VILG_UNSUPPORTED'

test('zip files that lie', async (t) => {
  const storages = new Storages()
  const root = sampleCheckpoint(storages)
  const sample = (change: (records: ZipRecord[]) => ZipRecord[]) => torchZip(root, storages.all, { change })
  const lie = (name: string, record: Partial<ZipRecord>) =>
    sample((all) => all.map((one) => (one.name.endsWith(name) ? { ...one, ...record } : one)))
  const add = (...records: ZipRecord[]) => sample((all) => [...all, ...records])
  const x = Buffer.from('x')
  const cases: [what: string, bytes: Uint8Array, code: ErrorCode, text: RegExp][] = [
    ['a name that leads out', add({ name: '../../evil', data: x }), format, /invalid relative path/],
    ['an absolute name', add({ name: '/etc/evil', data: x }), format, /absolute path/],
    ['a name with backslashes', add({ name: '..\\evil', data: x }), format, /invalid relative path/],
    ['a drive', add({ name: 'C:evil', data: x }), format, /absolute path/],
    ['a name twice', add({ name: 'archive/version', data: x }), format, /"archive\/version" twice/],
    ['two pickles', add({ name: 'other/data.pkl', data: x }), format, /one record data\.pkl.*found 2/],
    [
      'a compressed storage',
      lie('/data/0', { deflate: true }),
      unsupported,
      /stored as it is, found it compressed/,
    ],
    [
      'an encrypted storage',
      lie('/data/0', { lies: { flags: 1, compressedSize: 60 } }),
      unsupported,
      /encrypted/,
    ],
    [
      'an encrypted pickle',
      lie('/data.pkl', { lies: { flags: 1, compressedSize: 1439 } }),
      unsupported,
      /encrypted/,
    ],
    ['storages in the same bytes', lie('/data/1', { lies: { offset: 0 } }), format, /do not overlap/],
    ['sizes that differ', lie('/data/0', { lies: { compressedSize: 40 } }), format, /size mismatch/],
    [
      'sizes beyond the file',
      lie('/data/0', { lies: { compressedSize: 1e9, uncompressedSize: 1e9 } }),
      format,
      /overflows file bounds/,
    ],
    ['an offset beyond the file', lie('/data/0', { lies: { offset: 1e9 } }), format, /bytes at 1000000000/],
    ['no record at the offset', lie('/data/0', { lies: { offset: 1 } }), format, /invalid local file header/],
    ['big-endian data', torchZip(root, storages.all, { byteorder: 'big' }), unsupported, /little-endian/],
    ['no pickle', zip([{ name: 'a/b', data: x }]), format, /data\.pkl/],
    ['no records', zip([]), format, /data\.pkl|other records|another format/],
    [
      'a pickle bomb',
      lie('/data.pkl', { data: x, deflate: true, lies: { uncompressedSize: 2 ** 27 } }),
      unsupported,
      /at most 67108864 bytes/,
    ],
    [
      'a pickle that deflates to more than it says',
      lie('/data.pkl', { data: Buffer.alloc(2 ** 20), deflate: true, lies: { uncompressedSize: 1000 } }),
      format,
      /1000 deflated bytes.*larger than 1000 bytes/,
    ],
    [
      'an array bomb',
      zip([{ name: 'a.npy', data: Buffer.alloc(1000), deflate: true, lies: { uncompressedSize: 2 ** 30 } }]),
      unsupported,
      /at most 268435456 bytes/,
    ],
  ]
  for (const [what, bytes, code, text] of cases) await refused(t, bytes, code, text, what)
  // compressed as it is, a pickle is read: some tools pack checkpoints again
  const packed = await opened(t, lie('/data.pkl', { deflate: true }))
  t.is(packed.names.length, 15)
})

test('arrays of numpy that are not of numbers, or lie', async (t) => {
  const array = (header: string, data = Buffer.alloc(8)) => {
    const text = Buffer.from(header)
    const length = Buffer.alloc(2)
    length.writeUInt16LE(text.length)
    return zip([
      {
        name: 'a.npy',
        data: Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, text, data]),
      },
    ])
  }
  const header = (descr: string, shape: string) =>
    `{'descr': '${descr}', 'fortran_order': False, 'shape': ${shape}, }\n`
  t.deepEqual([...(await (await opened(t, array(header('<f8', '(1,)')))).read('a'))], [0])
  const cases: [bytes: Uint8Array, code: ErrorCode, text: RegExp][] = [
    [array(header('|O', '(1,)')), unsupported, /little-endian numbers, found the dtype \|O/],
    [array(header('>f8', '(1,)')), unsupported, />f8/],
    [array(header('constructor', '(1,)')), unsupported, /constructor/],
    [array(header('<f8', '(2,)')), format, /expected 16 bytes of data, found 8/],
    [array(header('<f8', '(9007199254740992, 2)')), format, /sizes from 0/],
    [array(header('<f8', '(1111111111111111 1)')), unsupported, /header of an array/],
    [array("{'descr': __import__('os').system('id')}"), unsupported, /header of an array/],
    [
      zip([{ name: 'a.npy', data: Buffer.from('\x93NUMPY\x01\x00\xff\xff....', 'latin1') }]),
      format,
      /within its bytes/,
    ],
    [zip([{ name: 'a.npy', data: Buffer.from('GIF89a..........') }]), format, /another format/],
    [zip([{ name: 'a.npy', data: Buffer.from('x') }]), format, /1 bytes/],
  ]
  for (const [bytes, code, text] of cases) await refused(t, bytes, code, text, String(text))
})

test('legacy files that lie', async (t) => {
  const storages = new Storages({ keys: ['94000001'], legacy: true })
  const tensor = storages.tensor(storages.add('FloatStorage', Float32Array.of(1, 2)), [2])
  const good = torchLegacy(tensor, storages.all)
  t.deepEqual([...(await (await opened(t, good)).read('tensor'))], [1, 2])
  const file = storages.all
  const cases: [what: string, bytes: Uint8Array, code: ErrorCode, text: RegExp][] = [
    ['another version', torchLegacy(tensor, file, { version: 1002 }), unsupported, /version 1001.*1002/],
    [
      'a big-endian machine',
      torchLegacy(tensor, file, { machine: legacyMachine(false) }),
      unsupported,
      /big-endian/,
    ],
    ['no machine', torchLegacy(tensor, file, { machine: [] }), format, /little_endian/],
    ['a plain pickle', Buffer.from('\x80\x02}.', 'latin1'), unsupported, /pickle of a dict; save it again/],
    ['a storage without data', torchLegacy(tensor, []), format, /storage 94000001 among those of the file/],
    [
      'a storage that nobody named',
      torchLegacy(tensor, [...file, { ...file[0]!, key: '5' }]),
      format,
      /storages in use/,
    ],
    ['keys twice', torchLegacy(tensor, [...file, ...file]), format, /each key of a storage once/],
    [
      'another length',
      torchLegacy(tensor, [{ ...file[0]!, length: 3 }]),
      format,
      /2 elements in storage.*found 3/,
    ],
    ['data cut off', good.subarray(0, -1), format, /8 bytes for storage .*truncated/],
    ['the count cut off', good.subarray(0, -9), format, /truncated/],
    ['the pickle cut off', good.subarray(0, 250), format, /truncated/],
    [
      'a storage in place of the version',
      torchLegacy(tensor, file, { version: persistent(tuple('storage')) }),
      format,
      /plain values before/,
    ],
  ]
  for (const [what, bytes, code, text] of cases) await refused(t, bytes, code, text, what)
})

test('files of other formats', async (t) => {
  const tar = Buffer.alloc(1024)
  tar.write('sys_info')
  tar.write('ustar', 257)
  await refused(t, tar, unsupported, /PyTorch 0\.4 or later, found a tar file/)
  await refused(t, Buffer.from('GIF89a'), format, /another format/)
  await refused(t, new Uint8Array(), format, /another format/)
  await refused(t, Buffer.from('PK'), format, /another format/)
})

test('a zip file cut off anywhere is refused', async (t) => {
  const good = await readFile(fixture('torch/checkpoint-zip.pt'))
  for (let length = 4; length < good.length; length += 211) {
    await refused(t, good.subarray(0, length), format, /zip file|bytes at/, `${length} bytes`)
  }
})
