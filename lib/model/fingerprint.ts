import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import { CONFIG_FILE, WEIGHTS_FILE } from './config-file.ts'

/** SHA-256 of a model's configuration and weights, in hexadecimal. */
export async function modelFingerprint(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of [CONFIG_FILE, WEIGHTS_FILE]) {
    const path = join(folder, name)
    try {
      for await (const part of createReadStream(path)) hash.update(part as Buffer)
    } catch (cause) {
      const text = `Cannot read ${path}: ${(cause as Error).message}`
      throw new VilgError('ERR_VILG_IO', text, { path }, { cause })
    }
  }
  return hash.digest('hex')
}
