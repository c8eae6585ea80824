import { mkdir, mkdtemp, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { VilgError } from '../errors.ts'
import { makeFolder } from '../make-folder.ts'

/**
 * Writes the files of a folder so that a crash never leaves a mixture of old and new.
 *
 * `write` fills a draft, a folder within the folder. Until it is done nothing else is touched: a full disk, an abort or a killed process
 * leaves the old files as they were (a killed process leaves the draft too, which nobody reads). Then the draft's files are renamed into
 * place. Where the draft has the `marker`, the old marker goes first and the new one comes last, so that a folder which a process was
 * killed in the middle of lacks it, and does not load. A draft of one file without marker replaces that file by a single rename: the
 * folder is the old or the new one at every moment.
 *
 * @throws ERR_VILG_IO with the system's reason; what `write` throws
 */
export async function writeFolder(
  folder: string,
  marker: string,
  write: (draft: string) => Promise<void>,
): Promise<void> {
  await makeFolder(folder)
  const draft = await io(`make a folder in ${folder}`, folder, () => mkdtemp(join(folder, '.draft-')))
  try {
    await write(draft)
    await io(`write ${folder}`, folder, () => commit(folder, draft, marker))
  } finally {
    await rm(draft, { recursive: true, force: true }).catch(() => {}) // an earlier error is the one to tell
  }
}

async function commit(folder: string, draft: string, marker: string): Promise<void> {
  const entries = await readdir(draft)
  const marked = entries.includes(marker)
  const replaced = join(draft, '.replaced')
  await mkdir(replaced)
  if (marked) await rm(join(folder, marker), { force: true })
  for (const entry of entries.filter((name) => name !== marker)) {
    await replace(join(draft, entry), join(folder, entry), join(replaced, entry))
  }
  if (marked) await rename(join(draft, marker), join(folder, marker))
  await syncFolder(folder)
}

/** Renames over a file; a folder that is in the way goes aside. */
async function replace(from: string, to: string, aside: string): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    // the codes by which systems say that a folder cannot be replaced
    const code = (error as NodeJS.ErrnoException).code
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'EPERM' && code !== 'EISDIR') throw error
    await rename(to, aside)
    await rename(from, to)
  }
}

/**
 * Writes a folder that is absent until it is whole: `write` fills a draft beside it, which is renamed. A killed process leaves the draft,
 * which nobody reads.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT where the folder is there and not empty; ERR_VILG_IO; what `write` throws
 */
export async function writeNewFolder(folder: string, write: (draft: string) => Promise<void>): Promise<void> {
  await checkNewFolder(folder)
  const parent = dirname(resolve(folder))
  await makeFolder(parent)
  const draft = join(parent, `.${basename(resolve(folder))}.${process.pid}-${++draftsBegun}.draft`)
  await makeFolder(draft)
  try {
    await write(draft)
    await io(`write ${folder}`, folder, async () => {
      await syncFolder(draft)
      await rename(draft, folder)
      await syncFolder(parent)
    })
  } finally {
    await rm(draft, { recursive: true, force: true }).catch(() => {}) // an earlier error is the one to tell
  }
}

let draftsBegun = 0

/**
 * Checks that {@link writeNewFolder} may write a folder, for work that takes long before it does.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT where it is there and not empty, or no folder
 */
export async function checkNewFolder(folder: string): Promise<void> {
  const found = await readdir(folder).catch((error: NodeJS.ErrnoException) => error)
  if (Array.isArray(found) ? found.length === 0 : found.code === 'ENOENT') return
  const what = Array.isArray(found) ? `one with ${found.length} files` : found.message
  const message = `Expected a folder that is not there yet for ${folder}, found ${what}`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', message, { path: folder })
}

/** Makes renames in a folder last. */
async function syncFolder(folder: string): Promise<void> {
  let handle
  try {
    handle = await open(folder)
    await handle.sync()
  } catch {
    // Windows and some network file systems cannot: they order renames by themselves
  } finally {
    await handle?.close()
  }
}

/** Writes a file and syncs it; for files of a draft. */
export async function writeDraft(path: string, text: string): Promise<void> {
  await io(`write ${path}`, path, async () => {
    const file = await open(path, 'wx')
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
  })
}

/** The text of a file; undefined where there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return readFile(path, 'utf8').catch(() => undefined)
}

async function io<T>(doing: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const message = `Could not ${doing}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', message, { path }, { cause })
  }
}
