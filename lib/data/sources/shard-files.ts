import { stat } from 'node:fs/promises'
import { VilgError } from '../../errors.ts'

/** A file that is a shard, or has some. */
export interface ShardFile {
  path: string
  /** From the source's folder on. */
  name: string
}

/** Name and size of every file, which stand for its content in fingerprints. */
export async function sizesOf(files: readonly ShardFile[]): Promise<{ name: string; size: number }[]> {
  const sizes: { name: string; size: number }[] = []
  for (const { path, name } of files) {
    try {
      sizes.push({ name, size: (await stat(path)).size })
    } catch (cause) {
      const text = `Cannot read ${path}: ${(cause as Error).message}`
      throw new VilgError('ERR_VILG_IO', text, { path }, { cause })
    }
  }
  return sizes
}
