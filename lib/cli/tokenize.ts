import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Command, Option } from 'commander'
import { codeReport, tokenizeSource } from '../data/codes/tokenize-source.ts'
import { filterTable } from '../data/filters/filter-report.ts'
import { makeRules, RULE_NAMES, type RuleName } from '../data/filters/rules.ts'
import { IMAGE_FITS, type ImageFit } from '../data/image.ts'
import { openSource } from '../data/sources/open-source.ts'
import type { BrokenPolicy } from '../data/stream/sample-stream.ts'
import { VilgError } from '../errors.ts'
import { BUNDLE_FILE, BUNDLE_FOLDERS, SHIPPED_MODEL } from '../model/bundle-file.ts'
import { ImageTokenizer } from '../model/image-tokenizer.ts'
import { packageFolder } from '../native/binding.ts'
import { addModelOptions, addOutputOptions, integer, type ModelFlags } from './arguments.ts'
import { addSourceOptions, type SourceFlags, sourceOptions } from './source-options.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'

interface Flags extends ModelFlags, SourceFlags {
  out: string
  rules?: RuleName[]
  fit: ImageFit
  shardSize: number
  batch: number
  onBroken: BrokenPolicy
  json?: boolean
}

/** Adds the command `tokenize`. */
export function addTokenize(program: Command, context: CliContext): void {
  const command = program
    .command('tokenize')
    .summary('turn pictures into shards of codes')
    .description(
      'Turns pictures with captions into shards: the image tokens as safetensors (tensor image, I32, pictures x tokens), ids and ' +
        'captions as lines of JSON beside, and index.json with the fingerprint of the image tokenizer and all settings.',
    )
    .argument('<data>', 'a folder of pictures, a .jsonl or .csv list of them, or tar or Parquet files')
    .requiredOption('-o, --out <folder>', 'where the shards go')
    .addOption(new Option('--rules <names...>', 'what samples have to pass').choices([...RULE_NAMES]))
    .addOption(
      new Option('--fit <fit>', 'how pictures become square').choices([...IMAGE_FITS]).default('cover'),
    )
    .option('--shard-size <integer>', 'pictures a shard', integer(1, 2 ** 20), 4096)
    .option('--batch <integer>', 'pictures encoded at once', integer(1, 4096), 16)
  addSourceOptions(command)
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
--model may also be the folder of an image tokenizer alone. The command may be ended at any time, and goes on with the first
shard that is missing. Samples that cannot be used or do not pass the rules are left out, counted and listed.

The rules: words (fewer than 15), nouns (at least one), characters (no special ones), duplicates (the same pixels), near-duplicates
(difference hashes within 3 bits). words and nouns need the package jieba-wasm.

Examples:
  $ ernie-vilg tokenize pictures --out codes
  $ ernie-vilg tokenize shards/ --model my-model --out codes --rules words nouns characters duplicates
  $ ernie-vilg tokenize pairs.parquet --image img --caption title --out codes --shard-size 10000 --json`,
    )
    .action(async (data: string, flags: Flags) => tokenize(context, data, flags))
}

async function tokenize(context: CliContext, data: string, flags: Flags): Promise<void> {
  const begun = performance.now()
  const { device, precision, out, shardSize, batch, fit, onBroken } = flags
  const { signal } = context
  const source = await openSource(data, sourceOptions(flags))
  if (source.kind === 'codes') {
    const text = `Expected pictures in ${data}, which has codes already. Give it to train --data`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path: data })
  }
  const rules = await makeRules(flags.rules ?? [])
  const tokenizerFolder = await imageTokenizerFolder(flags.model ?? join(packageFolder().path, SHIPPED_MODEL))
  await using tokenizer = await ImageTokenizer.load(tokenizerFolder, { device, precision, signal })
  const progress = new CliProgress(context, 'tokenizing')
  const index = await tokenizeSource(tokenizer, source, out, {
    tokenizerFolder,
    shardSize,
    batch,
    fit,
    rules,
    onBroken,
    signal,
    onProgress: (done, fraction) => progress.update(fraction, `${done} pictures`),
  }).finally(() => progress.stop())
  const { problems, ...report } = codeReport(index)
  const seconds = (performance.now() - begun) / 1000
  if (flags.json) {
    const shards = index.shards.map(({ codes, captions, count }) => ({ codes, captions, count }))
    const { model, fit: usedFit } = index
    printJson(context, { out, model, fit: usedFit, rules: index.rules, ...report, problems, shards, seconds })
    return
  }
  print(context, filterTable(report))
  const { length } = index.shards
  print(context, `${report.kept} pictures in ${length} ${length === 1 ? 'shard' : 'shards'} in ${out}`)
  for (const { id, reason } of problems) note(context, `  ${id}: ${reason}`)
}

/** The image tokenizer's folder of a bundle, or the folder itself. */
export async function imageTokenizerFolder(folder: string): Promise<string> {
  const isBundle = await stat(join(folder, BUNDLE_FILE)).then(
    () => true,
    () => false,
  )
  return isBundle ? join(folder, BUNDLE_FOLDERS.imageTokenizer) : folder
}
