import { type FileHandle, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { VilgError } from '../../errors.ts'
import { makeFolder } from '../../make-folder.ts'
import { bytes, double, encode, type Field, float, integer, message, text } from '../../protobuf.ts'
import { crc32c } from './crc32c.ts'

/** A picture as TensorBoard shows it. */
export interface EventImage {
  png: Uint8Array
  width: number
  height: number
}

// Fields of TensorFlow's event.proto and summary.proto.
const event = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 }
const summary = { value: 1 }
const value = { tag: 1, simpleValue: 2, image: 4 }
const image = { height: 1, width: 2, colorspace: 3, encoded: 4 }
const sessionLog = { status: 1 }

const fileVersion = 'brain.Event:2'
const sessionStart = 1
const rgb = 3

/**
 * An event file of TensorBoard: records of length, its checksum, an Event message and the message's checksum. Each part of a run
 * begins a file of its own in the same folder, and says from which step on it counts: what earlier files have from there on,
 * TensorBoard then leaves out.
 */
export class EventFile {
  readonly path: string
  readonly #file: FileHandle
  #pending: Uint8Array[] = []

  private constructor(path: string, file: FileHandle) {
    this.path = path
    this.#file = file
  }

  /**
   * Makes a file in `folder`, which is made too where it is missing.
   *
   * @param step the first that this file will have
   */
  static async create(folder: string, step: number): Promise<EventFile> {
    await makeFolder(folder)
    const seconds = Math.floor(Date.now() / 1000)
    try {
      // TensorBoard reads what has `tfevents` in its name, in the order of the names
      const number = String((await readdir(folder)).length).padStart(6, '0')
      const path = join(folder, `events.out.tfevents.${seconds}.${number}`)
      const file = new EventFile(path, await open(path, 'wx'))
      file.#add(0, text(event.fileVersion, fileVersion))
      file.#add(step, message(event.sessionLog, [integer(sessionLog.status, sessionStart)]))
      return file
    } catch (cause) {
      throw ioError(folder, cause)
    }
  }

  /** Adds numbers of a step, by tag. They are in the file after the next `flush`. */
  scalars(step: number, numbers: Readonly<Record<string, number>>): void {
    const values = Object.entries(numbers).map(([tag, number]) =>
      message(summary.value, [text(value.tag, tag), float(value.simpleValue, number)]),
    )
    if (values.length > 0) this.#add(step, message(event.summary, values))
  }

  /** Adds a picture of a step. */
  image(step: number, tag: string, { png, width, height }: EventImage): void {
    const picture = message(value.image, [
      integer(image.height, height),
      integer(image.width, width),
      integer(image.colorspace, rgb),
      bytes(image.encoded, png),
    ])
    this.#add(step, message(event.summary, [message(summary.value, [text(value.tag, tag), picture])]))
  }

  /** Writes out what was added. */
  async flush(): Promise<void> {
    if (this.#pending.length === 0) return
    const records = Buffer.concat(this.#pending)
    this.#pending = []
    try {
      await this.#file.appendFile(records)
    } catch (cause) {
      throw ioError(this.path, cause)
    }
  }

  /** Writes out what was added and closes the file. */
  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this.#file.close()
    }
  }

  #add(step: number, what: Field): void {
    const data = encode([double(event.wallTime, Date.now() / 1000), integer(event.step, step), what])
    this.#pending.push(record(data))
  }
}

/** A TFRecord. */
function record(data: Uint8Array): Uint8Array {
  const framed = Buffer.alloc(8 + 4 + data.length + 4)
  framed.writeBigUInt64LE(BigInt(data.length), 0)
  framed.writeUInt32LE(maskedChecksum(framed.subarray(0, 8)), 8)
  framed.set(data, 12)
  framed.writeUInt32LE(maskedChecksum(data), 12 + data.length)
  return framed
}

/** Rotated and moved, so that the checksum of data with checksums in it stays one. */
function maskedChecksum(data: Uint8Array): number {
  const crc = crc32c(data)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

function ioError(path: string, cause: unknown): VilgError {
  const reason = `Could not write event files at ${path}: ${(cause as Error).message}`
  return new VilgError('ERR_VILG_IO', reason, { path }, { cause })
}
