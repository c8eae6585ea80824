import type { ByteSource, Region } from './byte-source.ts'
import { formatError, unsupported } from './format-error.ts'
import { INCOMPLETE, pickleEnd, readUnsigned } from './pickle/opcodes.ts'
import { StorageTable, storageItemSize } from './pickle/tensors.ts'
import { maxPickleBytes, unpickle } from './pickle/unpickle.ts'
import { Dict, kindOf, type PickleValue, Tuple } from './pickle/values.ts'
import type { CheckpointContents } from './stored-tensor.ts'
import { torchContents } from './torch-contents.ts'

// torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION
const magicNumber = 0x1950a86a20f9469cfc6cn
const protocolVersion = 1001

const protocolOpcode = 0x80

/** Whether a file begins with a pickle of protocol 2 or later, as those of `torch.save` before PyTorch 1.6 do. */
export async function startsAsPickle(source: ByteSource): Promise<boolean> {
  return source.size > 2 && (await source.read(0, 1))[0] === protocolOpcode
}

/** Whether a file is a tar file, as those of `torch.save` before PyTorch 0.4 are. */
export async function startsAsTar(source: ByteSource): Promise<boolean> {
  return source.size >= 512 && Buffer.from(await source.read(257, 5)).toString('latin1') === 'ustar'
}

/**
 * A file of `torch.save` before PyTorch 1.6: pickles of a magic number, a version, facts of the machine, the object and the keys of its
 * storages; then, in the order of the keys, the number of elements of each storage (8 bytes) and its data.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED, ERR_VILG_IO
 */
export async function readTorchLegacy(source: ByteSource): Promise<CheckpointContents> {
  const pickles = new PickleSequence(source)
  const table = new StorageTable()
  const magic = await pickles.next(noStorages)
  if (magic !== magicNumber) {
    throw unsupported(
      `Expected a file of torch.save, which begins with its magic number, found a pickle of ${kindOf(magic)}; save it again with torch.save`,
    )
  }
  const version = await pickles.next(noStorages)
  if (version !== protocolVersion) {
    throw unsupported(
      `Expected version ${protocolVersion} of the format, found ${kindOf(version)} ${String(version)}`,
    )
  }
  checkMachine(await pickles.next(noStorages))
  const root = await pickles.next(table.load)
  const keys = expectKeys(await pickles.next(noStorages))
  const regions = await readRegions(source, pickles.position, keys, table)
  return torchContents(root, ({ key }) => {
    const region = regions.get(key)
    if (region === undefined)
      throw formatError(`Expected storage ${key} among those of the file, found no such key`)
    return region
  })
}

function noStorages(id: Tuple): never {
  throw formatError(
    `Expected plain values before and after the object, found a storage of ${id.items.length} items`,
  )
}

function checkMachine(machine: PickleValue): void {
  const littleEndian = machine instanceof Dict ? machine.entries.get('little_endian') : undefined
  if (littleEndian === undefined) {
    throw formatError(`Expected facts of the machine with little_endian, found ${kindOf(machine)}`)
  }
  if (littleEndian !== true)
    throw unsupported('Expected little-endian data, found a file of a big-endian machine')
}

function expectKeys(value: PickleValue): string[] {
  if (!Array.isArray(value))
    throw formatError(`Expected a list of the storages' keys, found ${kindOf(value)}`)
  const keys = value.map((key) => {
    if (typeof key !== 'string')
      throw formatError(`Expected a string for the key of a storage, found ${kindOf(key)}`)
    return key
  })
  if (new Set(keys).size !== keys.length)
    throw formatError('Expected each key of a storage once, found one twice')
  return keys
}

/** Where each storage lies: one after the other, each after its number of elements. */
async function readRegions(
  source: ByteSource,
  begin: number,
  keys: readonly string[],
  { storages }: StorageTable,
): Promise<Map<string, Region>> {
  const regions = new Map<string, Region>()
  let position = begin
  for (const key of keys) {
    const storage = storages.get(key)
    if (storage === undefined)
      throw formatError(`Expected the keys of storages in use, found ${JSON.stringify(key)}`)
    const elements = readUnsigned(await source.read(position, 8), 0, 8)
    if (elements !== storage.length) {
      throw formatError(`Expected ${storage.length} elements in storage ${key}, found ${elements}`)
    }
    const length = elements * storageItemSize(storage.dtype)
    position += 8
    if (length > source.size - position) {
      throw formatError(
        `Expected ${length} bytes for storage ${key} at ${position}, found a file of ${source.size} bytes (truncated?)`,
      )
    }
    regions.set(key, { source, start: position, length })
    position += length
  }
  return regions
}

/** Pickles one after the other, whose lengths nobody says. */
class PickleSequence {
  readonly #source: ByteSource
  /** Where the next one begins. */
  position = 0

  constructor(source: ByteSource) {
    this.#source = source
  }

  async next(load: (id: Tuple) => PickleValue): Promise<PickleValue> {
    // read twice as much each time, so that no more is read than about twice the pickle
    for (let length = firstRead; ; length *= 2) {
      const bytes = await this.#source.read(
        this.position,
        Math.min(length, this.#source.size - this.position),
      )
      const end = pickleEnd(bytes, 0)
      if (end !== INCOMPLETE) {
        this.position += end
        return unpickle(bytes.subarray(0, end), load)
      }
      if (bytes.length < length) {
        throw formatError(
          `Expected a pickle at ${this.position}, found one that the end of the file cuts off (truncated?)`,
        )
      }
      if (length >= maxPickleBytes) {
        throw unsupported(
          `Expected a pickle of at most ${maxPickleBytes} bytes, found a larger one at ${this.position}`,
        )
      }
    }
  }
}

const firstRead = 2 ** 16
