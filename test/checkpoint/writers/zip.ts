import { crc32, deflateRawSync } from 'node:zlib'

/** A record of a zip file, and lies about it for tests that need them. */
export interface ZipRecord {
  name: string
  data: Uint8Array
  deflate?: boolean
  /** What is said of the record in place of the truth. */
  lies?: Partial<{
    crc32: number
    compressedSize: number
    uncompressedSize: number
    offset: number
    flags: number
  }>
}

/** How {@link zip} writes. */
export interface ZipOptions {
  /** Sizes and offsets of every record in zip64's extra field, as for records of over 4 GB. */
  zip64?: boolean
}

/**
 * A zip file as PyTorch's writer makes it, byte for byte: sizes after the data, data aligned at 64 bytes by an extra field `FB` of `Z`s,
 * zip64's end of the directory.
 */
export function zip(records: readonly ZipRecord[], { zip64 = false }: ZipOptions = {}): Uint8Array {
  const parts: Uint8Array[] = []
  const directory: Uint8Array[] = []
  let position = 0
  const add = (bytes: Uint8Array) => {
    parts.push(bytes)
    position += bytes.length
  }
  for (const { name, data, deflate = false, lies = {} } of records) {
    const packed = deflate ? deflateRawSync(data) : data
    // names in UTF-8; sizes after the data, where there are any
    const flags = lies.flags ?? (packed.length === 0 ? 0x0800 : 0x0808)
    const checksum = lies.crc32 ?? crc32(data)
    const sizes = [lies.compressedSize ?? packed.length, lies.uncompressedSize ?? data.length] as const
    const offset = lies.offset ?? position
    const method = deflate ? 8 : 0
    const nameBytes = Buffer.from(name)
    const before = position + 30 + nameBytes.length + 4
    const padding = (64 - (before % 64)) % 64
    const fill = Buffer.concat([Buffer.from('FB'), uint(2, padding), Buffer.alloc(padding, 'Z')])
    add(
      Buffer.concat([
        Buffer.from('PK\x03\x04'),
        ...[0, flags, method, 0, 0].map((value) => uint(2, value)),
        uint(4, 0),
        uint(4, 0),
        uint(4, 0),
        uint(2, nameBytes.length),
        uint(2, fill.length),
        nameBytes,
        fill,
      ]),
    )
    add(packed)
    if (packed.length > 0)
      add(Buffer.concat([Buffer.from('PK\x07\x08'), ...[checksum, ...sizes].map((value) => uint(4, value))]))
    const [compressed, uncompressed] = sizes
    const extra = zip64
      ? Buffer.concat([uint(2, 1), uint(2, 24), uint(8, uncompressed), uint(8, compressed), uint(8, offset)])
      : Buffer.alloc(0)
    const shown = (value: number) => uint(4, zip64 ? 0xffffffff : value)
    directory.push(
      Buffer.concat([
        Buffer.from('PK\x01\x02'),
        ...[0, 0, flags, method, 0, 0].map((value) => uint(2, value)),
        uint(4, checksum),
        shown(compressed),
        shown(uncompressed),
        ...[nameBytes.length, extra.length, 0, 0, 0].map((value) => uint(2, value)),
        uint(4, 0),
        shown(offset),
        nameBytes,
        extra,
      ]),
    )
  }
  const start = position
  for (const entry of directory) add(entry)
  const size = position - start
  const count = records.length
  const end64 = position
  add(
    Buffer.concat([
      Buffer.from('PK\x06\x06'),
      uint(8, 44),
      uint(2, 0x31e),
      uint(2, 45),
      uint(4, 0),
      uint(4, 0),
      ...[count, count, size, start].map((value) => uint(8, value)),
    ]),
  )
  add(Buffer.concat([Buffer.from('PK\x06\x07'), uint(4, 0), uint(8, end64), uint(4, 1)]))
  add(
    Buffer.concat([
      Buffer.from('PK\x05\x06'),
      uint(2, 0),
      uint(2, 0),
      uint(2, count),
      uint(2, count),
      uint(4, size),
      uint(4, start),
      uint(2, 0),
    ]),
  )
  return Buffer.concat(parts)
}

function uint(width: 2 | 4 | 8, value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes.subarray(0, width)
}
