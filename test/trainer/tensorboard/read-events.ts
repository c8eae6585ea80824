// Reads event files by their definition (TensorFlow's tfrecord format, event.proto and summary.proto), without the writer's code.

/** What an event has of what we write. */
export interface ReadEvent {
  wallTime?: number
  step?: number
  fileVersion?: string
  sessionStatus?: number
  scalars?: Record<string, number>
  images?: Record<string, { width: number; height: number; colorspace: number; bytes: string }>
}

/** All events of a file. */
export function readEvents(bytes: Buffer): ReadEvent[] {
  const events: ReadEvent[] = []
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at))
    check(bytes.subarray(at, at + 8), bytes.readUInt32LE(at + 8))
    const data = bytes.subarray(at + 12, at + 12 + length)
    check(data, bytes.readUInt32LE(at + 12 + length))
    events.push(readEvent(data))
    at += 16 + length
  }
  return events
}

function check(data: Buffer, masked: number): void {
  const rotated = (masked - 0xa282ead8) >>> 0
  const stored = ((rotated >>> 17) | (rotated << 15)) >>> 0
  if (stored !== slowCrc32c(data)) throw new Error('wrong checksum')
}

/** Bit by bit. */
function slowCrc32c(data: Buffer): number {
  let crc = 0xffffffff
  for (const byte of data) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}

function readEvent(data: Buffer): ReadEvent {
  const event: ReadEvent = {}
  for (const [field, value] of fields(data)) {
    if (field === 1) event.wallTime = (value as Buffer).readDoubleLE()
    else if (field === 2) event.step = value as number
    else if (field === 3) event.fileVersion = String(value)
    else if (field === 7) event.sessionStatus = Object.fromEntries(fields(value as Buffer))[1] as number
    else if (field === 5) readSummary(event, value as Buffer)
    else throw new Error(`unknown field ${field}`)
  }
  return event
}

function readSummary(event: ReadEvent, data: Buffer): void {
  for (const [, value] of fields(data)) {
    const { 1: tag, 2: scalar, 4: image } = Object.fromEntries(fields(value as Buffer))
    if (scalar !== undefined) (event.scalars ??= {})[String(tag)] = (scalar as Buffer).readFloatLE()
    if (image === undefined) continue
    const { 1: height, 2: width, 3: colorspace, 4: bytes } = Object.fromEntries(fields(image as Buffer))
    const read = { width, height, colorspace, bytes: (bytes as Buffer).toString('hex') }
    ;(event.images ??= {})[String(tag)] = read as NonNullable<ReadEvent['images']>[string]
  }
}

function* fields(data: Buffer): Generator<[number, number | Buffer]> {
  let at = 0
  const varint = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = data[at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < data.length) {
    const key = varint()
    const kind = key & 7
    const size = kind === 1 ? 8 : kind === 5 ? 4 : kind === 2 ? varint() : undefined
    if (size === undefined) yield [key >> 3, varint()]
    else yield [key >> 3, data.subarray(at, (at += size))]
  }
}
