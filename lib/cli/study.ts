import { extname } from 'node:path'
import { type Command, Option } from 'commander'
import { writeFileWhole } from '../data/image.ts'
import { Sampler } from '../sampler/sampler.ts'
import { analyzeStudy } from '../study/analyze-study.ts'
import { createStudy } from '../study/create-study.ts'
import { generateResponses } from '../study/generate-responses.ts'
import { PROTOCOL_NAMES, type ProtocolName, STUDY_LANGUAGES, type StudyLanguage } from '../study/protocols.ts'
import { studyReport } from '../study/report-html.ts'
import { readStudyItems } from '../study/study-items.ts'
import type { StudyItem } from '../study/study-options.ts'
import { studyTable } from '../study/study-table.ts'
import {
  addDrawOptions,
  addModelOptions,
  addOutputOptions,
  type DrawFlags,
  drawOptions,
  integer,
  loadBundle,
  type ModelFlags,
} from './arguments.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'

interface CreateFlags extends ModelFlags, DrawFlags {
  protocol: ProtocolName
  items: string
  out: string
  key?: string
  title?: string
  instructions?: string
  criteria?: string[]
  against?: string
  language: StudyLanguage
  studySeed?: number
  imageSize?: number
  overwrite?: boolean
  generate?: string
  count?: number
  json?: boolean
}

interface AnalyzeFlags {
  key: string
  report?: string
  out?: string
  json?: boolean
}

/** Adds the commands `study create` and `study analyze`. */
export function addStudy(program: Command, context: CliContext): void {
  const study = program
    .command('study')
    .summary('let people judge pictures and texts')
    .description(
      'Makes pages on which people judge what systems drew or wrote, without knowing which, and sums up what they said.',
    )
    .addHelpText(
      'after',
      `
Examples:
  $ ernie-vilg study create --protocol text-to-image --items items.jsonl --out study.html
  $ ernie-vilg study analyze anna.json ben.json --key study.key.json --report report.html
  $ ernie-vilg study analyze results/*.json --key study.key.json --json`,
    )
  addCreate(study, context)
  addAnalyze(study, context)
}

function addCreate(study: Command, context: CliContext): void {
  const command = study
    .command('create')
    .summary('make the page of a study')
    .description(
      'Makes a study by a protocol of the papers: one HTML page for raters, which needs no network and names no system, and a key file, which is not for raters.',
    )
    .addOption(
      new Option('--protocol <name>', 'what people judge, and how')
        .choices(PROTOCOL_NAMES)
        .makeOptionMandatory(),
    )
    .requiredOption('--items <file>', 'one JSON object a line: what was given, and the responses by system')
    .requiredOption('-o, --out <file>', 'the page, .html')
    .option('--key <file>', 'the key (default: the name of the page with .key.json)')
    .option('--title <text>', 'that raters see')
    .option('--instructions <text>', 'shown at the start')
    .option('--criteria <ids...>', "some of the protocol's criteria (default: all)")
    .option(
      '--against <system>',
      'of pairs: compare the others with this system only (default: each with each)',
    )
    .addOption(
      new Option('--language <code>', 'that the page begins in').choices(STUDY_LANGUAGES).default('en'),
    )
    .option('--study-seed <integer>', 'same items and seed, same page (default: a random one)', integer(0))
    .option('--image-size <pixels>', 'make judged pictures squares of this side', integer(1, 4096))
    .option('--overwrite', 'replace a page and a key that are there')
    .option('--generate <system>', 'let the model draw, describe or answer all items, under this name')
    .option(
      '-n, --count <integer>',
      'with --generate: draw so many pictures and take the best',
      integer(1, 1024),
    )
  addDrawOptions(command)
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
A line of --items, pictures being paths from the folder of the file on:
  text-to-image, pairwise  {"text": "红苹果", "angle": "single-object", "responses": {"ours": "ours/1.png", "theirs": "theirs/1.png"}}
  caption                  {"image": "1.jpg", "responses": {"ours": "一个红苹果", "human": "桌上的苹果"}}
  vqa                      {"image": "1.jpg", "question": "这是什么?", "responses": {"ours": "苹果", "human": "一个苹果"}}

--seed, --temperature, --top-k and --top-p are of the drawing, --study-seed is of the order of units.

Examples:
  $ ernie-vilg study create --protocol pairwise --items items.jsonl --against ours --out study.html
  $ ernie-vilg study create --protocol text-to-image --items prompts.jsonl --generate ours --model my-model --out study.html --json`,
    )
    .action(async (flags: CreateFlags) => create(context, command, flags))
}

async function create(context: CliContext, command: Command, flags: CreateFlags): Promise<void> {
  const { protocol, out, generate, count, language } = flags
  const page = out
  if (extname(page).toLowerCase() !== '.html')
    command.error(`error: --out ${page} is the page: give a name that ends in .html`)
  if (generate === undefined && (count !== undefined || Object.keys(drawOptions(flags)).length > 0))
    command.error('error: --count, --seed, --temperature, --top-k and --top-p are for --generate')
  const key = flags.key ?? `${page.slice(0, -'.html'.length)}.key.json`
  const read = await readStudyItems(flags.items, protocol)
  const items = generate === undefined ? read : await generated(context, read, generate, flags)
  const { title, instructions, criteria, against, studySeed, imageSize, overwrite } = flags
  const given = { title, instructions, criteria, against, seed: studySeed, imageSize, overwrite }
  const progress = new CliProgress(context, 'reading pictures')
  const made = await createStudy({
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    protocol,
    items,
    page,
    key,
    language,
    signal: context.signal,
    onProgress: ({ fraction }) => progress.update(fraction),
  }).finally(() => progress.stop())
  const { study, systems, units, seed } = made.key
  const numUnits = Object.keys(units).length
  for (const warning of made.warnings) note(context, `warning: ${warning}`)
  if (flags.json) {
    const { pageBytes, warnings } = made
    printJson(context, {
      study,
      protocol,
      page,
      key,
      items: items.length,
      units: numUnits,
      systems,
      seed,
      pageBytes,
      warnings,
    })
    return
  }
  print(context, `${page}: ${numUnits} units of ${items.length} items, for raters`)
  print(context, `${key}: the key, not for raters`)
}

async function generated(
  context: CliContext,
  items: readonly StudyItem[],
  system: string,
  flags: CreateFlags,
): Promise<StudyItem[]> {
  await using model = await loadBundle(context, flags)
  const progress = new CliProgress(context, 'generating')
  return await generateResponses(new Sampler(model), items, {
    ...drawOptions(flags),
    ...(flags.count === undefined ? {} : { count: flags.count }),
    protocol: flags.protocol,
    system,
    signal: context.signal,
    onProgress: ({ fraction }) => progress.update(fraction),
  }).finally(() => progress.stop())
}

function addAnalyze(study: Command, context: CliContext): void {
  const command = study
    .command('analyze')
    .summary('sum up the results of a study')
    .description(
      'Sums up the results files of raters: means, pass and win rates with 95 % intervals, agreement, what raters left out, all by angle too.',
    )
    .argument('<results...>', 'the results files, one of each rater')
    .requiredOption('--key <file>', 'the key that study create wrote')
    .option('--report <file>', 'also write a page for people, .html')
    .option('-o, --out <file>', 'also write the numbers as JSON to a file')
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Examples:
  $ ernie-vilg study analyze anna.json ben.json --key study.key.json
  $ ernie-vilg study analyze results/*.json --key study.key.json --report report.html --out analysis.json`,
    )
    .action(async (files: string[], flags: AnalyzeFlags) => analyze(context, files, flags))
}

async function analyze(context: CliContext, files: string[], flags: AnalyzeFlags): Promise<void> {
  const analysis = await analyzeStudy(flags.key, files)
  if (flags.out !== undefined)
    await writeFileWhole(flags.out, Buffer.from(`${JSON.stringify(analysis, null, 2)}\n`))
  if (flags.report !== undefined) await writeFileWhole(flags.report, Buffer.from(await studyReport(analysis)))
  if (flags.json) {
    printJson(context, analysis)
    return
  }
  print(context, studyTable(analysis))
  if (flags.report !== undefined) print(context, `\n${flags.report}`)
}
