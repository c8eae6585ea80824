import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type ErrorCode, openCheckpoint, type TensorSource, VilgError } from '../../lib/index.ts'
import { temporaryFolder } from '../model/helpers.ts'

/** Writes bytes as a file of a folder that goes with the test. */
export async function fileOf(t: ExecutionContext, bytes: Uint8Array, name = 'file'): Promise<string> {
  const path = join(await temporaryFolder(t), name)
  await writeFile(path, bytes)
  return path
}

/** Opens bytes as a checkpoint, which is closed with the test. */
export async function opened(t: ExecutionContext, bytes: Uint8Array): Promise<TensorSource> {
  const checkpoint = await openCheckpoint(await fileOf(t, bytes))
  t.teardown(() => checkpoint.close())
  return checkpoint
}

/** Opens bytes and reads every tensor, which must end in an error of `code` whose message has the file's path and `text`. */
export async function refused(
  t: ExecutionContext,
  bytes: Uint8Array,
  code: ErrorCode,
  text: RegExp,
  what = '',
): Promise<VilgError | undefined> {
  const path = await fileOf(t, bytes)
  try {
    await using checkpoint = await openCheckpoint(path)
    for (const name of checkpoint.names) await checkpoint.read(name)
  } catch (error) {
    if (!t.true(error instanceof VilgError, `${what}: ${String((error as Error).stack)}`)) return undefined
    t.is((error as VilgError).code, code, `${what}: ${(error as Error).message}`)
    t.regex((error as Error).message, text, what)
    t.true((error as Error).message.includes(path), `${what}: no path in ${(error as Error).message}`)
    return error as VilgError
  }
  t.fail(`${what} was read`)
  return undefined
}
