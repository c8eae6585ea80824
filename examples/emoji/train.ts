// Trains the emoji model from nothing to a bundle: npm run train:emoji -- --help
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { memoryPairs } from '../../lib/data/pairs.ts'
import { formatSeconds } from '../../lib/trainer/progress.ts'
import { trainGenerator } from '../../lib/trainer/bundle/generator-stage.ts'
import { trainMatcher } from '../../lib/trainer/bundle/matcher-stage.ts'
import { summarize } from '../../lib/trainer/bundle/summary.ts'
import { PairData } from '../../lib/trainer/bundle/pair-data.ts'
import { makeTokens, makeVocabulary, trainImageTokenizer } from '../../lib/trainer/bundle/stages.ts'
import { interruptible, InterruptedError } from '../../lib/trainer/interrupt.ts'
import { questionTexts, trainAnswers } from './answers.ts'
import { type EmojiContext, writeEmojiBundle } from './bundle.ts'
import { emojiConfig, type EmojiConfig, smallConfig } from './config.ts'
import { type EmojiDataset, loadEmojiDataset } from './dataset.ts'

interface Flags {
  stage: StageName | 'all'
  minutes?: number
  run?: string
  bundle?: string
  small: boolean
}

const stages = {
  vocabulary: makeVocabulary,
  'image-tokenizer': trainImageTokenizer,
  tokens: makeTokens,
  generator: trainGenerator,
  answers: trainAnswers,
  matcher: trainMatcher,
  bundle: writeEmojiBundle,
} as const
type StageName = keyof typeof stages
const stageNames = Object.keys(stages) as StageName[]
// the model draws and describes without a matcher, so it is trained by itself; the bundle has it once it is there
const namesOfAll = stageNames.filter((name) => name !== 'matcher')

const flags = new Command('train:emoji')
  .description(
    'Trains vocabulary, image tokenizer and generator on the emoji data set and on questions about it, and writes them as a bundle. ' +
      'May be ended at any time (Ctrl-C saves first), and goes on where it was when started again.',
  )
  .addOption(
    new Option('--stage <name>', 'do this stage only; all are all but the matcher')
      .choices([...stageNames, 'all'])
      .default('all'),
  )
  .option('--minutes <number>', 'end after so many minutes, saving first', positiveNumber)
  .option('--run <folder>', 'where the run is kept (default: runs/emoji, with --small runs/emoji-small)')
  .option('--bundle <folder>', 'where the bundle goes (default: models/emoji, with --small <run>/bundle)')
  .option('--small', 'a tiny configuration that takes about a minute, to see that everything works', false)
  .parse()
  .opts<Flags>()

function positiveNumber(text: string): number {
  const value = Number(text)
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('Expected a number above 0.')
  return value
}

async function loadData({ data }: EmojiConfig, cacheFolder: string): Promise<EmojiDataset> {
  const { limit, ...options } = data
  const { train, heldOut } = await loadEmojiDataset({ ...options, cacheFolder })
  // Evenly over all categories; the held-out ones are no more than those to train on.
  const some = <T>(items: T[]) =>
    limit === undefined || items.length <= limit
      ? items
      : Array.from({ length: limit }, (_, i) => items[Math.floor((i * items.length) / limit)]!)
  return { train: some(train), heldOut: some(heldOut) }
}

async function main(signal: AbortSignal): Promise<void> {
  const begun = performance.now()
  const config = flags.small ? smallConfig : emojiConfig
  const folder = resolve(flags.run ?? (flags.small ? 'runs/emoji-small' : 'runs/emoji'))
  const bundle = resolve(flags.bundle ?? (flags.small ? join(folder, 'bundle') : 'models/emoji'))
  await mkdir(folder, { recursive: true })
  const data = await loadData(config, folder)
  console.log(`data: ${data.train.length} pictures to train on, ${data.heldOut.length} held out`)
  const minutesLeft = () => {
    if (flags.minutes === undefined) return undefined
    return Math.max(0, flags.minutes - (performance.now() - begun) / 60_000)
  }
  const context: EmojiContext = {
    config,
    folder,
    data: new PairData({
      train: memoryPairs(data.train),
      heldOut: memoryPairs(data.heldOut),
      settings: config.data,
    }),
    items: data,
    otherTexts: questionTexts([...data.train, ...data.heldOut], config.answers.seed),
    minutesLeft,
    signal,
    note: console.log,
    bundle,
  }
  for (const name of flags.stage === 'all' ? namesOfAll : [flags.stage]) {
    signal.throwIfAborted()
    const stageBegun = performance.now()
    const finished = await stages[name](context)
    const seconds = formatSeconds((performance.now() - stageBegun) / 1000)
    if (!finished) {
      console.log(`stage ${name}: time is up after ${seconds}; the same command goes on from here`)
      return
    }
    console.log(`stage ${name}: finished (${seconds})`)
  }
  console.log(`\n${await summarize(folder)}`)
}

try {
  await interruptible(main)
} catch (error) {
  if (!(error instanceof InterruptedError)) throw error
  console.log(`${error.message}: saved; the same command goes on from here`)
  process.exitCode = error.signal === 'SIGINT' ? 130 : 143 // as a shell says of a process that a signal ended
}
