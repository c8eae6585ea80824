import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { VilgError } from './errors.ts'

/**
 * Makes a folder and those it lies in; one that is there already is fine. In place of mkdir with `recursive`, which never ends where a
 * system says that a parent is missing below a folder that is there, as Linux does below /proc: here every folder is tried twice at most.
 *
 * @throws ERR_VILG_IO with the system's reason
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await make(path)
  } catch (cause) {
    const message = `Could not make the folder ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', message, { path }, { cause })
  }
}

async function make(path: string): Promise<void> {
  let error = await makeOne(path)
  if (error?.code === 'ENOENT' && dirname(path) !== path) {
    await make(dirname(path))
    error = await makeOne(path)
  }
  if (error) throw error
}

/** Why there is no such folder now; undefined where there is, be it that somebody else made it meanwhile. */
async function makeOne(path: string): Promise<NodeJS.ErrnoException | undefined> {
  try {
    await mkdir(path)
    return undefined
  } catch (error) {
    // systems differ in what they say of a folder that is there, so they are not asked for EEXIST
    const found = await stat(path).catch(() => undefined)
    return found?.isDirectory() ? undefined : (error as NodeJS.ErrnoException)
  }
}
