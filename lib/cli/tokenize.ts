import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { tokenizeFolder } from '../data/code-shards.ts'
import { BUNDLE_FILE, BUNDLE_FOLDERS, SHIPPED_MODEL } from '../model/bundle-file.ts'
import { ImageTokenizer } from '../model/image-tokenizer.ts'
import { packageFolder } from '../native/binding.ts'
import { addModelOptions, addOutputOptions, integer, type ModelFlags } from './arguments.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'

interface Flags extends ModelFlags {
  out: string
  shardSize: number
  batch: number
  json?: boolean
}

/** Adds the command `tokenize`. */
export function addTokenize(program: Command, context: CliContext): void {
  const command = program
    .command('tokenize')
    .summary('turn pictures into shards of codes')
    .description(
      'Turns a folder of pictures with captions into shards: the image tokens as safetensors (tensor image, I32, pictures x tokens), ids and ' +
        'captions as lines of JSON beside, and index.json with the fingerprint of the image tokenizer.',
    )
    .argument('<folder>', 'pictures with captions: a .txt beside each, or captions.jsonl')
    .requiredOption('-o, --out <folder>', 'where the shards go')
    .option('--shard-size <integer>', 'pictures a shard', integer(1, 2 ** 20), 4096)
    .option('--batch <integer>', 'pictures encoded at once', integer(1, 4096), 16)
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
--model may also be the folder of an image tokenizer alone. The command may be ended at any time, and goes on with the first
shard that is missing. Pictures that cannot be read or have no caption are left out, counted and listed.

Examples:
  $ ernie-vilg tokenize pictures --out codes
  $ ernie-vilg tokenize pictures --model my-model --out codes --shard-size 10000 --json`,
    )
    .action(async (folder: string, flags: Flags) => tokenize(context, folder, flags))
}

async function tokenize(context: CliContext, folder: string, flags: Flags): Promise<void> {
  const begun = performance.now()
  const { device, precision, out, shardSize, batch } = flags
  const { signal } = context
  const tokenizerFolder = await imageTokenizerFolder(flags.model ?? join(packageFolder().path, SHIPPED_MODEL))
  await using tokenizer = await ImageTokenizer.load(tokenizerFolder, { device, precision, signal })
  const progress = new CliProgress(context, 'tokenizing')
  const onProgress = (done: number, total: number) => progress.update(done / total, `${done} of ${total}`)
  const index = await tokenizeFolder(tokenizer, folder, out, {
    tokenizerFolder,
    shardSize,
    batch,
    signal,
    onProgress,
  }).finally(() => progress.stop())
  const count = index.shards.reduce((sum, shard) => sum + shard.count, 0)
  const problems = [...index.problems, ...index.shards.flatMap(({ skipped }) => skipped)]
  const seconds = (performance.now() - begun) / 1000
  if (flags.json) {
    const shards = index.shards.map(({ codes, captions, count: rows }) => ({ codes, captions, count: rows }))
    printJson(context, {
      out,
      model: index.model,
      count,
      skipped: problems.length,
      problems,
      shards,
      seconds,
    })
    return
  }
  print(context, `${count} pictures in ${index.shards.length} shards in ${out}; ${problems.length} left out`)
  for (const { file, reason } of problems) note(context, `  ${file}: ${reason}`)
}

/** The image tokenizer's folder of a bundle, or the folder itself. */
async function imageTokenizerFolder(folder: string): Promise<string> {
  const isBundle = await stat(join(folder, BUNDLE_FILE)).then(
    () => true,
    () => false,
  )
  return isBundle ? join(folder, BUNDLE_FOLDERS.imageTokenizer) : folder
}
