import type { Command } from 'commander'
import { folderPairs, type ImageTextPair } from '../data/pairs.ts'
import { writeFileWhole } from '../data/image.ts'
import { evaluatePairs, evaluationTable, type PairsEvaluation } from '../metrics/evaluation.ts'
import {
  addModelOptions,
  addOutputOptions,
  integer,
  loadBundle,
  type ModelFlags,
  number,
} from './arguments.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'
import { addEvaluateCaptions } from './evaluate-captions.ts'
import { addEvaluateFid } from './evaluate-fid.ts'

interface Flags extends ModelFlags {
  data?: string
  heldOut?: string
  count: number
  seed: number
  temperature: number
  candidates?: number
  beams: number
  out?: string
  json?: boolean
}

/** Adds the command `evaluate`, with the metrics that need no model as commands below it. */
export function addEvaluate(program: Command, context: CliContext): void {
  const command = program
    .command('evaluate')
    .summary('measure a model on pictures with captions; judge captions and pictures by metrics')
    .description(
      'Measures a model in both directions on a folder of pictures with captions, the same numbers for the same seed. The commands judge captions and pictures of any model.',
    )
    .enablePositionalOptions()
    .helpCommand(false)
    .option(
      '--data <folder>',
      'pictures with captions, as for train; drawn pictures are compared with all of them',
    )
    .option('--held-out <folder>', 'pictures with captions that the model was not trained on, measured apart')
    .option('-n, --count <integer>', 'pairs to try of each folder', integer(1), 200)
    .option(
      '--seed <integer>',
      'decides which pairs and captions are tried, and what is drawn',
      integer(0),
      1,
    )
    .option(
      '--temperature <number>',
      'of the drawing, one candidate a prompt',
      number({ min: 0, max: 1000 }),
      0.2,
    )
    .option(
      '--candidates <integer>',
      "also draw so many of each first caption with the bundle's own settings, and keep the best by likelihood and by its matcher",
      integer(2, 1024),
    )
    .option('--beams <integer>', 'width of the beam search', integer(1, 64), 4)
    .option('-o, --out <file>', 'also write the numbers as JSON to a file')
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Drawn pictures count as right if no other picture of the folders is nearer (pixel mean squared error), descriptions if the best
beam is the first caption; both count for pictures that look the same, too.

Examples:
  $ ernie-vilg evaluate --model my-model --data pictures
  $ ernie-vilg evaluate --model my-model --data pictures --held-out others --count 50 --json
  $ ernie-vilg evaluate captions --help
  $ ernie-vilg evaluate fid --help`,
    )
    .action(async ({ data, ...flags }: Flags) => {
      // not a required option: it would be one of the commands below, too
      if (data === undefined) return command.error("error: required option '--data <folder>' not specified")
      await evaluate(context, data, flags)
    })
  addEvaluateCaptions(command, context)
  addEvaluateFid(command, context)
}

async function evaluate(context: CliContext, data: string, flags: Omit<Flags, 'data'>): Promise<void> {
  const begun = performance.now()
  await using model = await loadBundle(context, flags)
  const size = model.imageTokenizer.config.resolution
  const train = await readPairs(context, data, size)
  const heldOut = flags.heldOut === undefined ? [] : await readPairs(context, flags.heldOut, size)
  const { count, seed, temperature, candidates, beams } = flags
  const sets: Record<string, readonly ImageTextPair[]> = {
    data: train,
    ...(heldOut.length > 0 ? { heldOut } : {}),
  }
  const results: Record<string, PairsEvaluation> = {}
  const progress = new CliProgress(context, 'evaluating')
  try {
    for (const [i, [name, pairs]] of Object.entries(sets).entries()) {
      results[name] = await evaluatePairs(model, pairs, {
        gallery: [...train, ...heldOut],
        count,
        seed,
        temperature,
        ...(candidates === undefined ? {} : { candidates }),
        beams,
        signal: context.signal,
        onProgress: ({ fraction, what }) => progress.update((i + fraction) / Object.keys(sets).length, what),
      })
    }
  } finally {
    progress.stop()
  }
  const { device, precision } = model.generator
  const seconds = (performance.now() - begun) / 1000
  const report = { model: model.name, device, precision, seed, temperature, beams, ...results, seconds }
  if (flags.out !== undefined)
    await writeFileWhole(flags.out, Buffer.from(`${JSON.stringify(report, null, 2)}\n`))
  if (flags.json) printJson(context, report)
  else print(context, evaluationTable(results))
}

async function readPairs(context: CliContext, folder: string, size: number): Promise<ImageTextPair[]> {
  const { source, report } = await folderPairs(folder, { size })
  if (report.skipped > 0) {
    note(context, `${folder}: ${report.skipped} of ${report.valid + report.skipped} left out`)
    for (const { file, reason } of report.problems) note(context, `  ${file}: ${reason}`)
  }
  const pairs: ImageTextPair[] = []
  for (let i = 0; i < source.length; i++) pairs.push(await source.read(i))
  return pairs
}
