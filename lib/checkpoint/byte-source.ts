import { type FileHandle, open } from 'node:fs/promises'
import { VilgError } from '../errors.ts'
import { formatError } from './format-error.ts'

/** Bytes that can be read at any place: a file, or memory. */
export interface ByteSource {
  /** Bytes in all. */
  readonly size: number
  /**
   * A copy of `length` bytes from `position` on, in a buffer of its own.
   *
   * @throws ERR_VILG_CHECKPOINT_FORMAT where they are not all there, before anything is allocated; ERR_VILG_IO
   */
  read(position: number, length: number): Promise<Uint8Array>
  close(): Promise<void>
}

/** A run of bytes of a source, such as the data of one storage. */
export interface Region {
  source: ByteSource
  /** Where it begins in the source. */
  start: number
  /** Its bytes. */
  length: number
  /** What its CRC-32 should be, where the format says it. */
  crc32?: number
}

/** A file as a {@link ByteSource}. Its size is that at opening: one that shrinks later gives an error. */
export class FileBytes implements ByteSource {
  readonly #file: FileHandle
  readonly #path: string
  readonly size: number

  private constructor(file: FileHandle, path: string, size: number) {
    this.#file = file
    this.#path = path
    this.size = size
  }

  /** @throws ERR_VILG_IO with the system's reason */
  static async open(path: string): Promise<FileBytes> {
    let file: FileHandle | undefined
    try {
      file = await open(path)
      const found = await file.stat()
      if (!found.isFile())
        throw new Error(found.isDirectory() ? 'it is a directory' : 'it is no regular file')
      return new FileBytes(file, path, found.size)
    } catch (cause) {
      await file?.close()
      throw ioError('open', path, cause)
    }
  }

  async read(position: number, length: number): Promise<Uint8Array> {
    checkRange(this.size, position, length)
    const bytes = new Uint8Array(length)
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.#file
        .read(bytes, done, length - done, position + done)
        .catch((cause: unknown) => {
          throw ioError('read', this.#path, cause)
        })
      if (bytesRead === 0) throw formatError(`Expected ${this.size} bytes, found a file that became shorter`)
      done += bytesRead
    }
    return bytes
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

/** Memory as a {@link ByteSource}. */
export class MemoryBytes implements ByteSource {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get size(): number {
    return this.#bytes.length
  }

  async read(position: number, length: number): Promise<Uint8Array> {
    checkRange(this.size, position, length)
    return Uint8Array.prototype.slice.call(this.#bytes, position, position + length)
  }

  async close(): Promise<void> {}
}

function checkRange(size: number, position: number, length: number): void {
  // written so that no sum can lose bits
  if (position >= 0 && length >= 0 && position <= size && length <= size - position) return
  throw formatError(`Expected ${length} bytes at ${position}, found a file of ${size} bytes (truncated?)`)
}

function ioError(doing: string, path: string, cause: unknown): VilgError {
  const message = `Cannot ${doing} ${path}: ${(cause as Error).message}`
  return new VilgError('ERR_VILG_IO', message, { path }, { cause })
}
