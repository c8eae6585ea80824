import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { folderPairs, type PairSource, splitPairs } from '../data/pairs.ts'
import { readJson } from '../model/config-file.ts'
import { writeBundle } from '../trainer/bundle/bundle-stage.ts'
import {
  type BundleTrainingConfig,
  changeBundleConfig,
  DEFAULT_SIZES,
  defaultBundleConfig,
} from '../trainer/bundle/config.ts'
import { trainGenerator } from '../trainer/bundle/generator-stage.ts'
import {
  makeTokens,
  makeVocabulary,
  type StageContext,
  trainImageTokenizer,
} from '../trainer/bundle/stages.ts'
import { readMeasurements } from '../trainer/bundle/measurements.ts'
import { summarize } from '../trainer/bundle/summary.ts'
import { InterruptedError } from '../trainer/interrupt.ts'
import { formatSeconds } from '../trainer/progress.ts'
import { rejectUnknownKeys } from '../validate.ts'
import { addOutputOptions, integer, number } from './arguments.ts'
import { type CliContext, note, print } from './context.ts'

interface Flags {
  data: string
  out: string
  run?: string
  config?: string
  size: number
  heldOut: number
  seed: number
  stage: StageName | 'all'
  minutes?: number
  name?: string
  description: string
  json?: boolean
}

interface TrainContext extends StageContext {
  bundle: string
  about: { name: string; description: string }
}

const stages = {
  vocabulary: makeVocabulary,
  'image-tokenizer': trainImageTokenizer,
  tokens: makeTokens,
  generator: trainGenerator,
  bundle: async (context: TrainContext) => {
    await writeBundle(context, context.bundle, context.about)
    context.note(`bundle: ${context.bundle}`)
    return true
  },
} as const satisfies Record<string, (context: TrainContext) => Promise<boolean>>
type StageName = keyof typeof stages
const stageNames = Object.keys(stages) as StageName[]

function knownSize(text: string): number {
  const size = Number(text)
  if ((DEFAULT_SIZES as readonly number[]).includes(size)) return size
  throw new InvalidArgumentError(`Expected one of ${DEFAULT_SIZES.join(', ')}.`)
}

/** What the process ends with where `--minutes` ran out before the work was done. */
const outOfTime = 3

/** Adds the command `train`. */
export function addTrain(program: Command, context: CliContext): void {
  const command = program
    .command('train')
    .summary('train a model on pictures with captions')
    .description(
      'Trains a text vocabulary, an image tokenizer and a generator on a folder of pictures with captions, and writes them as a bundle, ' +
        'which generate and caption take. May be ended at any time (Ctrl-C saves first); the same command goes on from there.',
    )
    .requiredOption(
      '--data <folder>',
      'pictures with captions: a .txt beside each (a caption a line), or captions.jsonl',
    )
    .requiredOption('-o, --out <folder>', 'where the bundle goes')
    .option('--run <folder>', 'where checkpoints, logs and samples are kept (default: <out>/run)')
    .option('--config <file>', 'JSON with the settings that shall differ from the defaults')
    .option(
      '--size <pixels>',
      `side of the pictures that the model draws: ${DEFAULT_SIZES.join(', ')}`,
      knownSize,
      64,
    )
    .option(
      '--held-out <share>',
      'share of the pairs that is not trained on but measured',
      number({ min: 0, max: 0.5 }),
      0.05,
    )
    .option('--seed <integer>', 'decides which pairs are held out', integer(0), 1)
    .addOption(
      new Option('--stage <name>', 'do this stage only').choices([...stageNames, 'all']).default('all'),
    )
    .option(
      '--minutes <number>',
      'end after so many minutes, saving first; exit code 3 where work is left',
      number({ above: 0 }),
    )
    .option('--name <name>', "the bundle's name (default: that of the folder)")
    .option('--description <text>', 'what the model draws and describes, for info', '')
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
With --json, standard output has lines of JSON: what was found, every step, evaluation, checkpoint and stage, and the end.

captions.jsonl has a line for each picture: {"file": "a.png", "text": "..."} or {"file": "a.png", "texts": ["...", "..."]}; the first
text should name the picture best. The config has the sections text, imageTokenizer, generator and sampling;
options.json in the run's image-tokenizer and generator folders has all of theirs.

Examples:
  $ ernie-vilg train --data pictures --out my-model
  $ ernie-vilg train --data pictures --out my-model --size 32 --minutes 60
  $ echo '{"generator": {"steps": 2000, "model": {"layers": 4}}}' > small.json
  $ ernie-vilg train --data pictures --out my-model --config small.json`,
    )
    .action(async (flags: Flags) => train(context, flags))
}

async function train(context: CliContext, flags: Flags): Promise<void> {
  const begun = performance.now()
  const tell = (type: string, fields: object, text: string) => {
    if (flags.json) print(context, JSON.stringify({ type, ...fields }))
    else print(context, text)
  }
  const bundle = resolve(flags.out)
  const folder = resolve(flags.run ?? join(bundle, 'run'))
  const changes = flags.config === undefined ? {} : await readChanges(flags.config)
  const size = sizeOf(changes) ?? flags.size
  const { source, report } = await folderPairs(flags.data, { size })
  for (const { file, reason } of report.problems) note(context, `  ${file}: ${reason}`)
  const data = splitPairs(source, { share: flags.heldOut, seed: flags.seed })
  const counts = { train: data.train.length, heldOut: data.heldOut.length, skipped: report.skipped }
  tell(
    'data',
    { ...counts, problems: report.problems },
    `data: ${counts.train} pictures to train on, ${counts.heldOut} held out, ${counts.skipped} left out`,
  )

  const config = configOf(size, flags.size, data.train.length, changes)
  const minutesLeft = () =>
    flags.minutes === undefined
      ? undefined
      : Math.max(0, flags.minutes - (performance.now() - begun) / 60_000)
  const work: TrainContext = {
    config,
    folder,
    data,
    dataSettings: { digest: digestOf(source), size, heldOut: flags.heldOut, seed: flags.seed },
    minutesLeft,
    signal: context.signal,
    note: (text) => tell('note', { text }, text),
    ...(flags.json
      ? { onLog: (stage: string, line: object) => print(context, JSON.stringify({ stage, ...line })) }
      : {}),
    progress: context.streams.stderr,
    bundle,
    about: {
      name: flags.name ?? (bundle.split(/[\\/]/).at(-1) || 'unnamed'),
      description: flags.description,
    },
  }
  try {
    await runStages(work, flags, tell, context)
  } catch (error) {
    if (error instanceof InterruptedError)
      note(context, 'what was trained is saved; the same command goes on from here')
    throw error
  }
}

async function runStages(
  work: TrainContext,
  { stage: only }: Flags,
  tell: (type: string, fields: object, text: string) => void,
  context: CliContext,
): Promise<void> {
  for (const stage of only === 'all' ? stageNames : [only]) {
    work.signal.throwIfAborted()
    const begun = performance.now()
    const finished = await stages[stage](work)
    const seconds = (performance.now() - begun) / 1000
    const text = finished ? 'finished' : 'time is up; the same command goes on from here'
    tell('stage', { stage, finished, seconds }, `stage ${stage}: ${text} (${formatSeconds(seconds)})`)
    if (finished) continue
    context.exitCode = outOfTime
    return
  }
  const measurements = await readMeasurements(work.folder)
  const bundle = only === 'all' || only === 'bundle' ? { bundle: work.bundle } : {}
  const next = 'bundle' in bundle ? `\n\nernie-vilg generate --model ${bundle.bundle} ...` : ''
  tell('end', { ...bundle, measurements }, `\n${await summarize(work.folder)}${next}`)
}

async function readChanges(path: string): Promise<Record<string, unknown>> {
  const changes = await readJson(path, `Expected the settings of a training in ${path}, found no such file`)
  rejectUnknownKeys(`the config in ${path}`, changes, ['text', 'imageTokenizer', 'generator', 'sampling'])
  return changes
}

/** The resolution that a config asks for. */
function sizeOf(changes: Record<string, unknown>): number | undefined {
  const model = (changes.imageTokenizer as { model?: { resolution?: unknown } } | undefined)?.model
  return typeof model?.resolution === 'number' ? model.resolution : undefined
}

/** The defaults of the flag's size, which a config with a resolution of its own then changes. */
function configOf(size: number, flag: number, pairs: number, changes: object): BundleTrainingConfig {
  const isKnown = (DEFAULT_SIZES as readonly number[]).includes(size)
  return changeBundleConfig(defaultBundleConfig(isKnown ? size : flag, pairs), changes)
}

/** Changes where pictures come, go or get other captions. */
function digestOf(source: PairSource): string {
  const hash = createHash('sha256')
  for (let i = 0; i < source.length; i++) {
    const { id, captions } = source.describe(i)
    hash.update(JSON.stringify([id, captions]))
  }
  return hash.digest('hex')
}
