import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { modelFingerprint } from '../../model/fingerprint.ts'
import { VilgError } from '../../errors.ts'
import { makeFolder } from '../../make-folder.ts'
import { CONFIG_FILE, WEIGHTS_FILE } from '../../model/config-file.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { paths, type StageContext } from './stages.ts'

/** Takes an image tokenizer that is there already instead of training one: byte for byte, as codes know theirs by its bytes. */
export async function takeImageTokenizer({ folder, note }: StageContext, given: string): Promise<boolean> {
  const { imageTokenizer } = paths(folder)
  const fingerprint = await modelFingerprint(given)
  if ((await modelFingerprint(imageTokenizer).catch(() => undefined)) !== fingerprint) {
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

/** Takes the vocabulary of a bundle that is trained on. */
export async function takeVocabulary({ folder, note }: StageContext, given: string): Promise<boolean> {
  const tokenizer = await TextTokenizer.load(given)
  await tokenizer.save(paths(folder).vocabulary)
  note(`vocabulary: that of ${given}`)
  return true
}
