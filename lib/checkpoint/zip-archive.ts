import { crc32, inflateRawSync } from 'node:zlib'
import yauzl, { type Entry, type ZipFile } from 'yauzl'
import { describeValue } from '../validate.ts'
import type { ByteSource, Region } from './byte-source.ts'
import { formatError, unsupported } from './format-error.ts'

// The largest checkpoints have some thousand entries; each costs memory
const maxEntries = 2 ** 17

const stored = 0
const deflated = 8

/** An entry of a zip file, with its data where they lie in the file. */
interface ZipEntry {
  name: string
  method: number
  encrypted: boolean
  /** The bytes as they are in the file. */
  region: Region
  crc32: number
  uncompressedSize: number
}

/**
 * The entries of a zip file, zip64 too. Names that lead out of a folder, entries of one name, and data that overlap are refused, as are
 * sizes that the file has not got.
 */
export class ZipArchive {
  readonly #entries: ReadonlyMap<string, ZipEntry>

  private constructor(entries: ReadonlyMap<string, ZipEntry>) {
    this.#entries = entries
  }

  /** @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED, ERR_VILG_IO */
  static async open(source: ByteSource): Promise<ZipArchive> {
    const reader = new SourceReader(source)
    try {
      const zip = await yauzl.fromRandomAccessReaderPromise(reader, source.size, { autoClose: false })
      return new ZipArchive(await readEntries(zip, source))
    } catch (error) {
      // errors of reading are ours already; what else there is, yauzl says of the file
      throw reader.failure ?? asFormatError(error)
    }
  }

  /** In the order of the file's directory. */
  get names(): string[] {
    return [...this.#entries.keys()]
  }

  has(name: string): boolean {
    return this.#entries.has(name)
  }

  /**
   * Where the bytes of an entry lie in the file.
   *
   * @throws ERR_VILG_CHECKPOINT_FORMAT where there is none of that name; ERR_VILG_UNSUPPORTED where it is compressed or encrypted
   */
  region(name: string): Region {
    const { method, encrypted, region, crc32: checksum } = this.#get(name)
    if (method !== stored || encrypted) {
      const found = encrypted ? 'encrypted' : `compressed (method ${method})`
      throw unsupported(`Expected the record ${name} to be stored as it is, found it ${found}`)
    }
    return { ...region, crc32: checksum }
  }

  /**
   * The bytes of an entry, which may be deflated, held against its checksum.
   *
   * @param maxBytes refuses larger ones before they are read
   * @throws ERR_VILG_CHECKPOINT_FORMAT for damaged data; ERR_VILG_UNSUPPORTED for data that are too large, or packed otherwise
   */
  async read(
    name: string,
    { maxBytes, checksums }: { maxBytes: number; checksums: boolean },
  ): Promise<Uint8Array> {
    const entry = this.#get(name)
    if (Math.max(entry.uncompressedSize, entry.region.length) > maxBytes) {
      throw unsupported(
        `Expected at most ${maxBytes} bytes in the record ${name}, found ${entry.uncompressedSize}`,
      )
    }
    const inflate = entry.method === deflated && !entry.encrypted
    const { source, start, length } = inflate ? entry.region : this.region(name)
    const packed = await source.read(start, length)
    const bytes = inflate ? inflated(name, packed, entry.uncompressedSize) : packed
    if (checksums && crc32(bytes) !== entry.crc32) {
      throw formatError(
        `Expected the record ${name} as its checksum says, found other bytes: the file is damaged`,
      )
    }
    return bytes
  }

  /** Whether an entry is not stored as it is. */
  isCompressed(name: string): boolean {
    return this.#get(name).method !== stored
  }

  #get(name: string): ZipEntry {
    const entry = this.#entries.get(name)
    if (entry === undefined) throw formatError(`Expected a record ${name} in the file, found none`)
    return entry
  }
}

function inflated(name: string, packed: Uint8Array, size: number): Uint8Array {
  let bytes: Uint8Array
  try {
    // no more than was said comes out, whatever the data say; Node wants room for at least a byte
    bytes = inflateRawSync(packed, { maxOutputLength: Math.max(size, 1) })
  } catch (cause) {
    throw formatError(`Expected ${size} deflated bytes in the record ${name}: ${(cause as Error).message}`)
  }
  if (bytes.length !== size) {
    throw formatError(`Expected ${size} deflated bytes in the record ${name}, found ${bytes.length}`)
  }
  return bytes
}

async function readEntries(zip: ZipFile, source: ByteSource): Promise<Map<string, ZipEntry>> {
  if (zip.entryCount > maxEntries) {
    throw unsupported(`Expected a zip file of at most ${maxEntries} records, found ${zip.entryCount}`)
  }
  const entries = new Map<string, ZipEntry>()
  for await (const entry of zip.eachEntry()) {
    const name = entry.fileName
    if (name.endsWith('/')) continue
    if (entries.has(name)) {
      throw formatError(`Expected each record once in the file, found ${describeValue(name)} twice`)
    }
    entries.set(name, await zipEntry(zip, entry, source))
  }
  checkDisjoint([...entries.values()])
  return entries
}

async function zipEntry(zip: ZipFile, entry: Entry, source: ByteSource): Promise<ZipEntry> {
  // that the data end within the file is checked here
  const { fileDataStart } = await zip.readLocalFileHeaderPromise(entry, { minimal: true })
  return {
    name: entry.fileName,
    method: entry.compressionMethod,
    encrypted: entry.isEncrypted(),
    region: { source, start: fileDataStart, length: entry.compressedSize },
    crc32: entry.crc32,
    uncompressedSize: entry.uncompressedSize,
  }
}

function checkDisjoint(entries: ZipEntry[]): void {
  const sorted = entries
    .filter(({ region }) => region.length > 0)
    .sort((a, b) => a.region.start - b.region.start)
  for (const [i, { name, region }] of sorted.entries()) {
    const next = sorted[i + 1]
    if (next !== undefined && region.start + region.length > next.region.start) {
      throw formatError(
        `Expected records that do not overlap, found ${name} and ${next.name} in the same bytes`,
      )
    }
  }
}

/** What yauzl reads from. */
class SourceReader extends yauzl.RandomAccessReader {
  readonly #source: ByteSource
  /** The error of the last read that failed. */
  failure: unknown

  constructor(source: ByteSource) {
    super()
    this.#source = source
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null, bytesRead?: number) => void,
  ): void {
    this.#source.read(position, length).then(
      (bytes) => {
        buffer.set(bytes, offset)
        callback(null, length)
      },
      (error: Error) => {
        this.failure = error
        callback(error)
      },
    )
  }
}

function asFormatError(error: unknown): unknown {
  if (!(error instanceof Error) || 'code' in error) return error
  return formatError(`Expected a sound zip file, found a damaged or truncated one: ${error.message}`)
}
