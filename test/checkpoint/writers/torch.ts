import {
  dict,
  float,
  global,
  newObject,
  orderedDict,
  persistent,
  pickle,
  type Py,
  reduce,
  text,
  tuple,
} from './pickle.ts'
import { zip, type ZipOptions, type ZipRecord } from './zip.ts'

/** Memory of tensors, as `torch.save` writes it. */
export interface TorchStorage {
  key: string
  /** Such as `FloatStorage`. */
  type: string
  length: number
  data: Uint8Array
}

/** Storages of one file, numbered as `torch.save` does. */
export class Storages {
  readonly all: TorchStorage[] = []
  readonly #keys: readonly string[]
  readonly #legacy: boolean
  /** @param keys the keys to give, in place of 0, 1, 2 ... */
  constructor({ keys = [], legacy = false }: { keys?: readonly string[]; legacy?: boolean } = {}) {
    this.#keys = keys
    this.#legacy = legacy
  }

  add(type: string, data: ArrayBufferView & { length: number }): TorchStorage {
    const key = this.#keys[this.all.length] ?? String(this.all.length)
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice()
    const storage = { key, type, length: data.length, data: bytes }
    this.all.push(storage)
    return storage
  }

  id({ type, key, length }: TorchStorage): Py {
    if (!this.#legacy) return persistent(tuple('storage', global('torch', type), key, 'cpu', length))
    // the address of the storage, written anew each time
    return persistent(tuple('storage', global('torch', type), text(key), 'cpu', length, null))
  }

  /** A view of a storage. */
  tensor(
    storage: TorchStorage,
    shape: readonly number[],
    strides: readonly number[] = rowMajor(shape),
    offset = 0,
  ): Py {
    return reduce(
      global('torch._utils', '_rebuild_tensor_v2'),
      tuple(this.id(storage), offset, tuple(...shape), tuple(...strides), false, orderedDict({})),
    )
  }
}

export function rowMajor(shape: readonly number[]): number[] {
  return shape.map((_, i) => shape.slice(i + 1).reduce((product, dim) => product * dim, 1))
}

export interface TorchZipOptions extends ZipOptions {
  folder?: string
  /** The record by which PyTorch tells files apart: a hash of its own. */
  serializationId?: string
  byteorder?: string | null
  /** What becomes of the records before they are written. */
  change?: (records: ZipRecord[]) => ZipRecord[]
}

/** A file of `torch.save` of PyTorch 2.13, of the pickle and the storages. */
export function torchZip(
  root: Py | Uint8Array,
  storages: readonly TorchStorage[],
  options: TorchZipOptions = {},
): Uint8Array {
  const {
    folder = 'archive',
    serializationId = '0'.repeat(40),
    byteorder = 'little',
    change = (all) => all,
  } = options
  const record = (name: string, data: string | Uint8Array): ZipRecord => ({
    name: `${folder}/${name}`,
    data: typeof data === 'string' ? Buffer.from(data) : data,
  })
  const records = [
    record('data.pkl', root instanceof Uint8Array ? root : pickle(root)),
    record('.format_version', '1'),
    record('.storage_alignment', '64'),
    ...(byteorder === null ? [] : [record('byteorder', byteorder)]),
    ...storages.map(({ key, data }) => record(`data/${key}`, data)),
    record('version', '3\n'),
    record('.data/serialization_id', serializationId),
  ]
  return zip(change(records), options)
}

/** A file of `torch.save` with `_use_new_zipfile_serialization=False`, as PyTorch before 1.6 wrote it. */
export function torchLegacy(
  root: Py | Uint8Array,
  storages: readonly TorchStorage[],
  { machine = legacyMachine(true), version = 1001 }: { machine?: Py; version?: Py } = {},
): Uint8Array {
  const sorted = storages.toSorted((a, b) => (a.key < b.key ? -1 : 1))
  return Buffer.concat([
    pickle(0x1950a86a20f9469cfc6cn),
    pickle(version),
    pickle(machine),
    root instanceof Uint8Array ? root : pickle(root),
    pickle(sorted.map(({ key }) => key)),
    ...sorted.flatMap(({ length, data }) => {
      const count = Buffer.alloc(8)
      count.writeBigUInt64LE(BigInt(length))
      return [count, data]
    }),
  ])
}

export function legacyMachine(littleEndian: boolean): Py {
  return dict({
    protocol_version: 1001,
    little_endian: littleEndian,
    type_sizes: dict({ short: 2, int: 4, long: 4 }),
  })
}

/** The checkpoint of test/fixtures/torch, made of the same values as there. */
export function sampleCheckpoint(storages: Storages): Py {
  const floats = storages.add(
    'FloatStorage',
    Float32Array.from({ length: 12 }, (_, i) => i),
  )
  const one = (type: string, data: ArrayBufferView & { length: number }) =>
    storages.tensor(storages.add(type, data), [data.length])
  const state: [string, Py][] = [
    ['weight', storages.tensor(floats, [3, 4])],
    ['tied', storages.tensor(floats, [4, 3], [1, 4])],
    ['half', one('HalfStorage', Uint16Array.of(0x3c00, 0xc000, 0x3800))],
    ['brain', one('BFloat16Storage', Uint16Array.of(0x3f80, 0xc000, 0x3f00))],
    ['double', one('DoubleStorage', Float64Array.of(0.1))],
    ['long', one('LongStorage', BigInt64Array.of(-1n, 2n ** 60n))],
    ['int', one('IntStorage', Int32Array.of(-7))],
    ['short', one('ShortStorage', Int16Array.of(-7))],
    ['char', one('CharStorage', Int8Array.of(-7))],
    ['byte', one('ByteStorage', Uint8Array.of(7))],
    ['bool', one('BoolStorage', Uint8Array.of(1, 0))],
    ['scalar', storages.tensor(storages.add('FloatStorage', Float32Array.of(2.5)), [])],
    ['empty', storages.tensor(storages.add('FloatStorage', new Float32Array(0)), [0, 3], [3, 1])],
    [
      'slice',
      storages.tensor(
        storages.add(
          'FloatStorage',
          Float32Array.from({ length: 20 }, (_, i) => i),
        ),
        [2, 3],
        [5, 1],
        6,
      ),
    ],
    [
      'parameter',
      reduce(
        global('torch._utils', '_rebuild_parameter'),
        tuple(
          storages.tensor(storages.add('FloatStorage', Float32Array.of(1, 1)), [2]),
          true,
          orderedDict({}),
        ),
      ),
    ],
  ]
  return dict({
    epoch: 3,
    global_step: 10,
    hyper_parameters: newObject(
      global('argparse', 'Namespace'),
      dict({ lr: float(4.5e-6), ch_mult: tuple(1, 2), name: 'é中' }),
    ),
    state_dict: orderedDict(state),
  })
}
