// Measures the emoji model on its training pictures and on those held out: npm run evaluate:emoji -- --help
import { cpus } from 'node:os'
import { SingleBar } from 'cli-progress'
import { Command, InvalidArgumentError } from 'commander'
import {
  backendInfo,
  ErnieVilg,
  evaluatePairs,
  evaluationTable,
  interruptible,
  InterruptedError,
  type PairsEvaluation,
  VilgError,
} from '../../lib/index.ts'
import { writeFileWhole } from '../../lib/data/image.ts'
import { type AnswersEvaluation, answersTable, evaluateAnswers } from './evaluate-answers.ts'
import { emojiConfig } from './config.ts'
import { loadEmojiDataset } from './dataset.ts'

interface Flags {
  model?: string
  count: number
  seed: number
  temperature: number
  candidates?: number
  beams: number
  precision: 'float32' | 'bfloat16'
  out: string
}

const flags = new Command('evaluate:emoji')
  .description(
    'Draws from captions, describes pictures of the emoji data set and answers questions about them, those trained on and those held ' +
      'out, and counts what is right. ' +
      'The same seed gives the same numbers.',
  )
  .option('-m, --model <folder>', 'folder of the bundle (default: models/emoji)')
  .option('-n, --count <integer>', 'pictures of each part to try', positiveInteger, 200)
  .option(
    '--seed <integer>',
    'decides which pictures and captions are tried, and what is drawn',
    positiveInteger,
    1,
  )
  .option('--temperature <number>', 'of the drawing, one candidate a prompt', Number, 0.2)
  .option(
    '--candidates <integer>',
    'also draw so many of each name, and keep the best by likelihood and by the matcher, where there is one',
    positiveInteger,
  )
  .option('--beams <integer>', 'width of the beam search', positiveInteger, 4)
  .option('--precision <type>', 'float32 or bfloat16', 'float32')
  .option('-o, --out <file>', 'where the numbers go', 'bench/results/emoji-evaluation.json')
  .parse()
  .opts<Flags>()

function positiveInteger(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('Expected an integer above 0.')
  return value
}

async function main(signal: AbortSignal): Promise<void> {
  const begun = performance.now()
  const { count, seed, temperature, candidates, beams, precision } = flags
  await using model = await ErnieVilg.load(flags.model, { precision, signal })
  const { seed: dataSeed, maxCharacters, heldOutShare } = emojiConfig.data
  const size = model.imageTokenizer.config.resolution
  const { train, heldOut } = await loadEmojiDataset({ size, seed: dataSeed, maxCharacters, heldOutShare })
  const isTerminal = process.stderr.isTTY
  const bar = isTerminal
    ? new SingleBar({ format: '{bar} {percentage}% {eta_formatted} left {what}', hideCursor: null })
    : undefined
  bar?.start(1000, 0, { what: '' })
  const parts = { train, heldOut }
  const results: Record<string, PairsEvaluation> = {}
  const answers: Record<string, AnswersEvaluation> = {}
  try {
    for (const [i, [name, pairs]] of Object.entries(parts).entries()) {
      results[name] = await evaluatePairs(model, pairs, {
        gallery: [...train, ...heldOut],
        count,
        seed,
        temperature,
        ...(candidates === undefined ? {} : { candidates }),
        beams,
        signal,
        onProgress: ({ fraction, what }) =>
          bar?.update(Math.round((1000 * (i + fraction)) / 2), { what: `${name}: ${what}` }),
      })
    }
    if (model.trainedFor.includes('visual-question-answering')) {
      for (const [name, pairs] of Object.entries(parts)) {
        answers[name] = await evaluateAnswers(model, pairs, {
          seed: emojiConfig.answers.seed,
          count: name === 'train' ? count : Infinity,
          signal,
          onProgress: (fraction) => bar?.update(Math.round(1000 * fraction), { what: `${name}: answering` }),
        })
      }
    }
  } finally {
    bar?.stop()
  }
  const seconds = (performance.now() - begun) / 1000
  const { isa, threads } = backendInfo()
  const report = {
    command: 'npm run evaluate:emoji',
    at: new Date().toISOString(),
    model: model.name,
    settings: { count, seed, temperature, candidates, beams, precision },
    machine: { cpu: cpus()[0]?.model.trim(), isa, threads },
    ...results,
    answers,
    seconds,
  }
  await writeFileWhole(flags.out, Buffer.from(`${JSON.stringify(report, null, 2)}\n`))
  console.log(evaluationTable(results))
  if (Object.keys(answers).length > 0) console.log(`\n${answersTable(answers)}`)
  console.log(`\n${seconds.toFixed(0)} s; numbers in ${flags.out}`)
}

try {
  await interruptible(main)
} catch (error) {
  if (error instanceof InterruptedError) process.exitCode = 130
  else if (error instanceof VilgError) {
    console.error(`error: ${error.message} (${error.code})`)
    process.exitCode = 1
  } else throw error
}
