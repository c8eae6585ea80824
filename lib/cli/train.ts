import { join, resolve } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { VilgError } from '../errors.ts'
import { writeBundle } from '../trainer/bundle/bundle-stage.ts'
import { DEFAULT_SIZES } from '../trainer/bundle/config.ts'
import { trainGenerator } from '../trainer/bundle/generator-stage.ts'
import { takeImageTokenizer, takeVocabulary } from '../trainer/bundle/given-parts.ts'
import {
  makeTokens,
  makeVocabulary,
  type StageContext,
  trainImageTokenizer,
} from '../trainer/bundle/stages.ts'
import { readMeasurements } from '../trainer/bundle/measurements.ts'
import { summarize } from '../trainer/bundle/summary.ts'
import { StreamData } from '../trainer/bundle/stream-data.ts'
import { InterruptedError } from '../trainer/interrupt.ts'
import { formatSeconds } from '../trainer/progress.ts'
import { addOutputOptions, integer, number } from './arguments.ts'
import { type CliContext, note, print } from './context.ts'
import { addSourceOptions, type SourceFlags } from './source-options.ts'
import { configOf, type GivenModels, openGiven, readChanges, sizeOf } from './train-config.ts'
import { openWeighted } from './training-data.ts'

interface Flags extends SourceFlags {
  data: string[]
  imageTokenizer?: string
  from?: string
  shuffle: number
  force: boolean
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
  given: GivenModels
  bundle: string
  about: { name: string; description: string }
}

const stages = {
  vocabulary: (context: TrainContext) =>
    context.given.vocabulary === undefined
      ? makeVocabulary(context)
      : takeVocabulary(context, context.given.vocabulary),
  'image-tokenizer': (context: TrainContext) =>
    context.given.imageTokenizer === undefined
      ? trainImageTokenizer(context)
      : takeImageTokenizer(context, context.given.imageTokenizer.folder),
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
      'Trains a text vocabulary, an image tokenizer and a generator on pictures with captions, and writes them as a bundle, ' +
        'which generate and caption take. May be ended at any time (Ctrl-C saves first); the same command goes on from there.',
    )
    .requiredOption(
      '--data <path...>',
      'a folder of pictures, a .jsonl or .csv list of them, tar or Parquet files, or codes; several are drawn from alike, path=weight by weight',
    )
    .option(
      '--image-tokenizer <folder>',
      'take this one (or that of this bundle) instead of training one; codes need theirs',
    )
    .option(
      '--from <bundle>',
      'fine-tune this bundle: its vocabulary and image tokenizer stay, its generator is trained on',
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
    .option(
      '--shuffle <integer>',
      'samples of a source that wait to be drawn from',
      integer(1, 2 ** 20),
      2048,
    )
    .option('--force', 'go on though the data is another than the run was begun with', false)
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
  addSourceOptions(command)
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
  $ ernie-vilg train --data pictures --out my-model --config small.json
  $ echo '{"generator": {"training": {"groups": [{"weights": "blocks.0.*", "learningRateScale": 0}]}}}' > frozen.json
  $ ernie-vilg train --data pictures --from a-model --config frozen.json --out my-model`,
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
  const given = await openGiven(flags)
  const size = given.imageTokenizer?.config.resolution ?? sizeOf(changes) ?? flags.size
  const data = await openData(flags, size, given.imageTokenizer !== undefined, context.signal)
  const count = await data.count(mostCounted)
  const { broken, heldOutCount: heldOut, settings } = data
  const isAtLeast = count === mostCounted
  for (const { id, reason } of broken.listed.slice(0, mostListed)) note(context, `  ${id}: ${reason}`)
  tell(
    'data',
    { train: count, isAtLeast, heldOut, broken, settings },
    `data: ${isAtLeast ? 'at least ' : ''}${count} pairs to train on, ${heldOut} held-out pictures to measure, ${broken.count} left out so far`,
  )

  const config = configOf({ size, flag: flags.size, pairs: count, changes, given })
  const minutesLeft = () =>
    flags.minutes === undefined
      ? undefined
      : Math.max(0, flags.minutes - (performance.now() - begun) / 60_000)
  const work: TrainContext = {
    config,
    folder,
    data,
    changeData: flags.force,
    given,
    fromGenerator: given.generator?.folder,
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

/** Above it, the number of pairs decides no setting any more. */
const mostCounted = 10_000
/** Broken samples that are named on the terminal; --json has more of them. */
const mostListed = 20

async function openData(
  flags: Flags,
  size: number,
  hasTokenizer: boolean,
  signal: AbortSignal,
): Promise<StreamData> {
  const sources = await openWeighted(flags.data, flags)
  const codes = sources.find(({ source }) => source.kind === 'codes')
  if (codes !== undefined && !hasTokenizer) {
    const text = `Expected --image-tokenizer with the codes in ${codes.source.name}: the one that made them`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path: codes.source.name })
  }
  const { heldOut: share, seed, shuffle, onBroken } = flags
  return StreamData.open({ sources, size, heldOut: { share, seed }, shuffle, onBroken, signal })
}
