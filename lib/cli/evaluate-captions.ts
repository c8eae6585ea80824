import { type Command, InvalidArgumentError, Option } from 'commander'
import { writeFileWhole } from '../data/image.ts'
import {
  CAPTION_METRICS,
  type CaptionMetric,
  type CaptionScores,
  evaluateCaptions,
} from '../metrics/captions/evaluate-captions.ts'
import { CAPTION_TOKENS } from '../metrics/captions/tokens.ts'
import { addOutputOptions } from './arguments.ts'
import { readCaptionFiles } from './caption-files.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'

interface Flags {
  references: string
  candidates: string
  tokens: (typeof CAPTION_TOKENS)[number]
  metrics?: CaptionMetric[]
  out?: string
  json?: boolean
}

/** Adds the command `evaluate captions`. */
export function addEvaluateCaptions(program: Command, context: CliContext): void {
  const command = program
    .command('captions')
    .summary('judge captions by references: BLEU, METEOR, ROUGE-L, CIDEr, CIDEr-D')
    .description(
      'Judges captions by what people said of the same pictures: BLEU-1 to 4, METEOR (exact and stem), ROUGE-L, CIDEr and CIDEr-D.',
    )
    .requiredOption('--references <file>', 'JSON: {"<id>": ["...", ...], ...}, or annotations of COCO')
    .requiredOption('--candidates <file>', 'JSON: {"<id>": "...", ...}, or results of COCO')
    .addOption(
      new Option('--tokens <kind>', 'words (English), characters (Chinese), or split at spaces')
        .choices([...CAPTION_TOKENS])
        .default('words'),
    )
    .option('--metrics <names>', `some of ${CAPTION_METRICS.join(',')} (default: all of them)`, metricNames)
    .option('-o, --out <file>', 'also write the numbers as JSON to a file')
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
What coco-caption and most papers call CIDEr is CIDEr-D. METEOR is NLTK's, not that of the Java program. SPICE is not there.
--json has the scores of each caption, too.

Examples:
  $ ernie-vilg evaluate captions --references captions_val.json --candidates results.json
  $ ernie-vilg evaluate captions --references gts.json --candidates res.json --tokens characters --json`,
    )
    .action(async (flags: Flags) => evaluate(context, flags))
}

async function evaluate(context: CliContext, flags: Flags): Promise<void> {
  const { tokens, metrics } = flags
  const { ids, items, unused } = await readCaptionFiles(flags.references, flags.candidates)
  if (unused > 0)
    note(context, `${unused} pictures of ${flags.references} have no candidate and are left out`)
  const progress = new CliProgress(context, 'evaluating')
  let scores: CaptionScores
  try {
    scores = await evaluateCaptions(items, {
      tokens,
      ...(metrics ? { metrics } : {}),
      signal: context.signal,
      onProgress: ({ fraction }) => progress.update(fraction),
    })
  } finally {
    progress.stop()
  }
  const byId = ids.map((id, i) => [
    id,
    Object.fromEntries(Object.entries(scores.items).map(([name, values]) => [name, values[i]])),
  ])
  const report = {
    count: scores.count,
    tokens,
    ...scores.corpus,
    items: Object.fromEntries(byId) as Record<string, object>,
  }
  if (flags.out !== undefined)
    await writeFileWhole(flags.out, Buffer.from(`${JSON.stringify(report, null, 2)}\n`))
  if (flags.json) printJson(context, report)
  else print(context, scoreTable(scores))
}

const titles: Record<Exclude<CaptionMetric, 'bleu'>, string> = {
  meteor: 'METEOR (exact, stem)',
  rougeL: 'ROUGE-L',
  cider: 'CIDEr (plain)',
  ciderD: 'CIDEr-D',
}

/** In percent, as papers give them (CIDEr's 10 being 1000 %). */
function scoreTable({ count, corpus: { bleu, ...others } }: CaptionScores): string {
  const rows = [
    ...(bleu ?? []).map((score, i) => [`BLEU-${i + 1}`, score] as const),
    ...Object.entries(others).map(([name, score]) => [titles[name as keyof typeof titles], score] as const),
  ]
  const lines = rows.map(([title, score]) => `${title.padEnd(20)}  ${(100 * score).toFixed(1).padStart(6)}`)
  return [`${count} captions, in percent`, ...lines].join('\n')
}

function metricNames(text: string): CaptionMetric[] {
  const names = text.split(',').map((name) => name.trim())
  const known: readonly string[] = CAPTION_METRICS
  const wrong = names.find((name) => !known.includes(name) && name !== 'spice')
  // that spice is not there is said, with the reason, by evaluateCaptions
  if (wrong !== undefined) throw new InvalidArgumentError(`Expected names of ${known.join(', ')}.`)
  return names as CaptionMetric[]
}
