import { readFileSync } from 'node:fs'
import { fixture } from '../../model/helpers.ts'
import { dict, global, newObject, orderedDict, pickle, type Py, reduce, tuple } from '../writers/pickle.ts'
import { sampleCheckpoint, Storages, type TorchStorage, torchLegacy, torchZip } from '../writers/torch.ts'
import { zip, type ZipRecord } from '../writers/zip.ts'
import { type Draws, mutateBytes, mutatePickle } from './mutate.ts'

/** Makes a mutated file of one kind. */
export type Mutator = (draws: Draws) => Uint8Array

const file = (name: string) => readFileSync(fixture(`torch/${name}`))

/** Pickles with the storages that they name. */
function pickles(legacy: boolean): { bytes: Uint8Array; storages: readonly TorchStorage[] }[] {
  const made = (build: (storages: Storages) => Py) => {
    const storages = new Storages({ legacy })
    const bytes = pickle(build(storages))
    return { bytes, storages: storages.all }
  }
  return [
    made(sampleCheckpoint),
    made((storages) => {
      const floats = storages.add('FloatStorage', Float32Array.of(1, 2, 3, 4, 5, 6))
      const module = newObject(
        global('torch.nn', 'Linear'),
        dict({
          _parameters: orderedDict({ weight: storages.tensor(floats, [2, 3]) }),
          _buffers: orderedDict({}),
          _modules: orderedDict({}),
        }),
      )
      return dict([
        ['model', module],
        ['list', [1, 2n ** 60n, 'a', null, true, [tuple(1, 2, 3, 4)]]],
        ['set', reduce(global('builtins', 'set'), tuple([1, 2]))],
        ['bytes', reduce(global('_codecs', 'encode'), tuple('\u00ff', 'latin1'))],
        [
          'default',
          reduce(global('collections', 'defaultdict'), tuple(global('builtins', 'int')), undefined, [
            ['a', 1],
          ]),
        ],
        ['object', newObject(global('a.b', 'C'), tuple(dict({ x: 1 }), dict({ y: 2 })), [['k', 2]])],
      ])
    }),
  ]
}

const safetensorsHeader =
  '{"__metadata__":{"format":"pt","é":"\\"\\n"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},' +
  '"b":{"dtype":"I64","shape":[],"data_offsets":[24,32]},"c":{"dtype":"BF16","shape":[0,7],"data_offsets":[32,32]},' +
  '"d":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[32,35]}}   '

function safetensors(header: Uint8Array, data: Uint8Array): Uint8Array {
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, data])
}

function npy(header: string, data: Uint8Array): Uint8Array {
  const length = Buffer.alloc(2)
  length.writeUInt16LE(header.length)
  return Buffer.concat([Buffer.from('\x93NUMPY\x01\x00', 'latin1'), length, Buffer.from(header), data])
}

/** Mutators by the kind of file that they begin with. */
export function mutators(): Record<string, Mutator> {
  const whole = (names: readonly string[]): Mutator => {
    const files = names.map(file)
    return (draws) => mutateBytes(draws.pick(files), draws.pick(files), draws)
  }
  const [zipPickles, legacyPickles] = [pickles(false), pickles(true)]
  const inPickle = (
    all: typeof zipPickles,
    wrap: (bytes: Uint8Array, storages: readonly TorchStorage[]) => Uint8Array,
  ): Mutator => {
    return (draws) => {
      const { bytes, storages } = draws.pick(all)
      const mutate = draws.chance(0.8) ? mutatePickle : mutateBytes
      return wrap(mutate(bytes, draws.pick(all).bytes, draws), storages)
    }
  }
  const header = Buffer.from(safetensorsHeader)
  const data = Buffer.alloc(35, 7)
  const sound = safetensors(header, data)
  const arrays: ZipRecord[] = [
    {
      name: 'a.npy',
      data: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", Buffer.alloc(24)),
    },
    {
      name: 'b.npy',
      data: npy("{'descr': '<i8', 'fortran_order': True, 'shape': (), }\n", Buffer.alloc(8)),
      deflate: true,
    },
  ]
  return {
    'torch zip, bytes': whole(['checkpoint-zip.pt', 'checkpoint-protocol4.pt', 'module.pt']),
    'torch zip, pickle': inPickle(zipPickles, (bytes, storages) => torchZip(bytes, storages)),
    'torch zip, records': (draws) => {
      const { bytes, storages } = draws.pick(zipPickles)
      return torchZip(bytes, storages, {
        zip64: draws.chance(0.5),
        change: (records) => lieAbout(records, draws),
      })
    },
    'torch legacy, bytes': whole(['checkpoint-legacy.pt']),
    'torch legacy, pickle': inPickle(legacyPickles, (bytes, storages) => torchLegacy(bytes, storages)),
    'safetensors, bytes': (draws) => mutateBytes(sound, sound, draws),
    'safetensors, header': (draws) => safetensors(mutateBytes(header, header, draws), data),
    'npz, bytes': whole(['arrays.npz', 'compressed.npz']),
    'npz, array': (draws) => {
      const at = draws.below(arrays.length)
      return zip(
        arrays.map((one, i) => (i === at ? { ...one, data: mutateBytes(one.data, one.data, draws) } : one)),
      )
    },
  }
}

const sizes = [0, 1, 47, 48, 49, 1e9, 2 ** 32 - 1]

function lieAbout(records: ZipRecord[], draws: Draws): ZipRecord[] {
  const at = draws.below(records.length)
  const one = records[at]!
  const changed: ZipRecord[] = [
    { ...one, deflate: true },
    { ...one, name: draws.pick(['../x', 'archive/data/0', 'archive/data.pkl', '/x', 'x/', '']) },
    { ...one, lies: { compressedSize: draws.pick(sizes) } },
    { ...one, lies: { uncompressedSize: draws.pick(sizes), compressedSize: draws.pick(sizes) } },
    { ...one, lies: { offset: draws.pick(sizes) } },
    { ...one, lies: { flags: draws.below(65536) } },
    { ...one, lies: { crc32: draws.below(2 ** 32) } },
    { ...one, data: one.data.subarray(0, draws.below(one.data.length + 1)) },
  ]
  return [...records.slice(0, at), draws.pick(changed), ...records.slice(draws.chance(0.9) ? at + 1 : at)]
}
