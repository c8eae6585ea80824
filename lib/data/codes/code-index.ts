import { join } from 'node:path'
import { VilgError } from '../../errors.ts'
import { readJson } from '../../model/config-file.ts'
import type { RuleCounts } from '../filters/rule.ts'
import { writeFileWhole } from '../image.ts'
import type { BrokenReport } from '../sources/sample.ts'

/** What codes are of: only an image tokenizer with this fingerprint turns them back. */
export interface CodeModel {
  fingerprint: string
  resolution: number
  grid: number
  codebookSize: number
}

/**
 * One shard of codes. Its tensor `image` is I32, count x grid^2; the lines of its `.jsonl` are `{ id, captions }`, a row each, with what rules
 * have to remember of it as `marks`.
 */
export interface CodeShard {
  /** Names of its two files. */
  codes: string
  captions: string
  /** Pictures in it. */
  count: number
  /** Where in the source the next one begins. */
  end: SourcePosition
  /** Samples of this part of the source, the broken ones among them. */
  read: number
  broken: BrokenReport
  /** What each rule dropped, by its name. */
  dropped: Record<string, RuleCounts>
}

/** A place in a source that is read in order. */
export interface SourcePosition {
  shard: number
  /** Number of the sample in its shard. */
  index: number
}

/** The file `index.json` of a folder of shards. */
export interface CodeIndex {
  format: 'ernie-vilg-codes'
  version: 2
  model: CodeModel
  /** Fingerprint of the source. */
  source: string
  /** How pictures became square. */
  fit: string
  /** Settings of the rules that samples had to pass, by their names. */
  rules: Record<string, Readonly<Record<string, unknown>>>
  shardSize: number
  /** In order; fewer than there will be until `complete`. */
  shards: CodeShard[]
  /** What was found to be unusable when the source was opened. */
  broken: BrokenReport
  complete: boolean
}

/** Name of the index in a folder of shards. */
export const CODE_INDEX_FILE = 'index.json'

/**
 * Reads the index of a folder of codes.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT where it is none, ERR_VILG_IO
 */
export async function readCodeIndex(folder: string): Promise<CodeIndex> {
  const path = join(folder, CODE_INDEX_FILE)
  const index = (await readJson(
    path,
    `Expected the index of a folder of codes in ${path}, found no such file`,
  )) as unknown as CodeIndex
  const { format, version, model, shards, shardSize } = index
  const isSound =
    format === 'ernie-vilg-codes' &&
    version === 2 &&
    typeof model?.fingerprint === 'string' &&
    [model.grid, model.codebookSize, shardSize].every((value) => Number.isSafeInteger(value) && value > 0) &&
    Array.isArray(shards) &&
    shards.every(
      ({ codes, captions, count }) => isName(codes) && isName(captions) && Number.isSafeInteger(count),
    )
  if (!isSound) {
    const text = `Expected the index of a folder of codes (format ernie-vilg-codes, version 2) in ${path}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', text, { path })
  }
  return index
}

/** A file of the folder itself. */
function isName(value: unknown): boolean {
  return typeof value === 'string' && /^[\w-][\w.-]*$/.test(value)
}

/** Writes the index, whole or not at all. */
export async function writeCodeIndex(folder: string, index: CodeIndex): Promise<void> {
  await writeFileWhole(join(folder, CODE_INDEX_FILE), Buffer.from(`${JSON.stringify(index, null, 2)}\n`))
}
