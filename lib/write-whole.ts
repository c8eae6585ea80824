import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { VilgError } from './errors.ts'

let writesBegun = 0

/**
 * Writes a file beside its place and moves it there, so that nobody ever sees half of it, and the old one stays where anything fails.
 *
 * @param write gets a function that adds bytes at the end; what it throws leaves the old file and rejects the call
 * @throws ERR_VILG_IO with the system's reason
 */
export async function writeWhole(
  path: string,
  write: (append: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<void> {
  // A name of its own for every call: two may write one path at once, and the last to finish wins.
  const partial = `${path}.${process.pid}-${++writesBegun}.partial`
  let file: FileHandle | undefined
  try {
    const opened = await io(path, () => open(partial, 'w'))
    file = opened
    // on a handle, writeFile goes on where the last write ended
    await write((bytes) => io(path, () => opened.writeFile(bytes)))
    await io(path, () => opened.sync())
    file = undefined
    await io(path, () => opened.close())
    await io(path, () => rename(partial, path))
  } catch (error) {
    await file?.close().catch(() => undefined)
    await rm(partial, { force: true }).catch(() => undefined)
    throw error
  }
}

async function io<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const message = `Cannot write ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', message, { path }, { cause })
  }
}
