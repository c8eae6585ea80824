import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { tokenizerFingerprint } from '../../data/codes/code-index.ts'
import { VilgError } from '../../errors.ts'
import { makeFolder } from '../../make-folder.ts'
import { CONFIG_FILE, WEIGHTS_FILE } from '../../model/config-file.ts'
import { paths, type StageContext } from './stages.ts'

/** Takes an image tokenizer that is there already instead of training one: byte for byte, as codes know theirs by its bytes. */
export async function takeImageTokenizer({ folder, note }: StageContext, given: string): Promise<boolean> {
  const { imageTokenizer } = paths(folder)
  const fingerprint = await tokenizerFingerprint(given)
  if ((await tokenizerFingerprint(imageTokenizer).catch(() => undefined)) !== fingerprint) {
    await makeFolder(imageTokenizer)
    for (const name of [WEIGHTS_FILE, CONFIG_FILE]) {
      await copyFile(join(given, name), join(imageTokenizer, name)).catch((cause: Error) => {
        const text = `Cannot copy ${name} of ${given} to ${imageTokenizer}: ${cause.message}`
        throw new VilgError('ERR_VILG_IO', text, { path: imageTokenizer }, { cause })
      })
    }
  }
  note(`image tokenizer: that of ${given}`)
  return true
}
