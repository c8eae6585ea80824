import { type Command, Option } from 'commander'
import { CONVERSION_KINDS, type ConversionKind, convertCheckpoint } from '../convert/convert-checkpoint.ts'
import { addOutputOptions, integer } from './arguments.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'

interface Flags {
  weights: string[]
  to: string
  from?: ConversionKind
  config?: string
  prefix?: string
  resolution?: number
  json?: boolean
}

/** Adds the command `convert`. */
export function addConvert(program: Command, context: CliContext): void {
  const command = program
    .command('convert')
    .summary('make a model of a public checkpoint')
    .description(
      'Makes a model folder of a public checkpoint: .safetensors, .ckpt, .pt, .pth, .pkl or .bin. Nothing that the file says is run.',
    )
    .requiredOption('--weights <file...>', 'the checkpoint, or the files of one that comes in several')
    .requiredOption('--to <folder>', 'the model folder, which must not be there yet')
    .addOption(
      new Option('--from <kind>', 'the family (default: guessed by the names of the tensors)').choices(
        CONVERSION_KINDS,
      ),
    )
    .option('--config <file>', "the family's own configuration, YAML or JSON")
    .option('--prefix <text>', 'what comes before the names of the model, where the file has several')
    .option(
      '--resolution <pixels>',
      'side of the pictures, where the configuration does not say it',
      integer(1, 2 ** 14),
    )
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
The folder is not there until it is whole: a conversion that ends early leaves nothing.

Examples:
  $ ernie-vilg convert --weights last.ckpt --config model.yaml --to vqgan
  $ ernie-vilg convert --weights encoder.pkl decoder.pkl --to dvae
  $ ernie-vilg convert --from taming-vqgan --weights last.ckpt --to vqgan --json`,
    )
    .action(async (flags: Flags) => convert(context, flags))
}

async function convert(context: CliContext, flags: Flags): Promise<void> {
  const { json, ...options } = flags
  const progress = new CliProgress(context, 'converting')
  const report = await convertCheckpoint({
    ...options,
    signal: context.signal,
    onProgress: ({ fraction }) => progress.update(fraction),
  }).finally(() => progress.stop())
  if (json) {
    printJson(context, report)
    return
  }
  print(context, `${report.to}: ${report.kind}, ${report.tensors} tensors`)
  for (const text of report.notes) note(context, `assumed ${text}`)
  for (const [start, count] of groups(report.unused)) note(context, `not used: ${start} (${count})`)
}

/** Names by their first two parts, with how many there are. */
function groups(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const name of names) {
    const start = name.split('.').slice(0, 2).join('.')
    counts.set(start, (counts.get(start) ?? 0) + 1)
  }
  return counts
}
