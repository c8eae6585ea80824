import { stat } from 'node:fs/promises'
import { dirname, extname, join } from 'node:path'
import { VilgError } from '../errors.ts'
import type { TextModel } from './text-model.ts'
import { TokenizerJsonModel } from './tokenizer-json-model.ts'
import { parseJsonObject, parseVocabulary, readText, readTextIfThere } from './vocabulary-file.ts'
import { WordPieceModel } from './word-piece-model.ts'
import { YTTM_FILE, YttmModel } from './yttm-model.ts'

/** The files that a folder is searched for, in this order. */
export const TOKENIZER_FILES = Object.freeze(['vocab.txt', 'tokenizer.json', YTTM_FILE] as const)

/**
 * Loads a tokenizer's file, or the first of {@link TOKENIZER_FILES} of a folder, with the tokenizer_config.json beside it. The kind of a
 * file is told by its extension: `.json` and `.model`, and WordPiece's vocabulary for all others.
 *
 * @throws ERR_VILG_IO; ERR_VILG_CHECKPOINT_FORMAT; ERR_VILG_CHECKPOINT_INCOMPATIBLE where special tokens are missing
 */
export async function loadTextModel(path: string): Promise<TextModel> {
  const isFolder = await isFolderAt(path)
  const folder = isFolder ? path : dirname(path)
  const config = await readTextIfThere(join(folder, 'tokenizer_config.json'))
  if (!isFolder) return parseModel(path, await readText(path), config)
  for (const name of TOKENIZER_FILES) {
    const file = join(path, name)
    const text = await readTextIfThere(file)
    if (text !== undefined) return parseModel(file, text, config)
  }
  const message = `Expected ${TOKENIZER_FILES.join(', ').replace(/, ([^,]*)$/, ' or $1')} in ${path}, found none of them`
  throw new VilgError('ERR_VILG_IO', message, { path })
}

async function parseModel(path: string, text: string, config: string | undefined): Promise<TextModel> {
  switch (extname(path)) {
    case '.json':
      return TokenizerJsonModel.parse(text, config, path)
    case '.model':
      return new YttmModel(text, lowerCaseOf(config, path), path)
    default:
      return new WordPieceModel(parseVocabulary(text, path), lowerCaseOf(config, path), path)
  }
}

/** What tokenizer_config.json says of lower case, which is so unless it says otherwise. */
function lowerCaseOf(configText: string | undefined, path: string): boolean {
  const config = configText === undefined ? {} : parseJsonObject(configText, `${path} (its config)`)
  const lowerCase = config.do_lower_case ?? true
  if (typeof lowerCase === 'boolean') return lowerCase
  const message = `Expected true or false for do_lower_case of tokenizer_config.json beside ${path}`
  throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path })
}

/** Whether the path is a folder. */
async function isFolderAt(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (cause) {
    const message = `Could not read ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', message, { path }, { cause })
  }
}
