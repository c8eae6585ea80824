import { type Command, Option } from 'commander'
import { contactSheet } from '../data/contact-sheet.ts'
import { writeFileWhole } from '../data/image.ts'
import type { ErnieVilg } from '../model/ernie-vilg.ts'
import type { ProgressEvent } from '../sampler/events.ts'
import type { GeneratedImage } from '../sampler/generated-image.ts'
import { RERANKERS, type RerankerName } from '../sampler/options.ts'
import { Sampler } from '../sampler/sampler.ts'
import {
  about,
  addDrawOptions,
  addModelOptions,
  addOutputOptions,
  type DrawFlags,
  drawOptions,
  integer,
  loadBundle,
  type ModelFlags,
} from './arguments.ts'
import { type CliContext, CliProgress, print, printJson } from './context.ts'
import { fileNameOf, isPngPath, pngIn, readLines, UniqueNames } from './files.ts'

interface Flags extends ModelFlags, DrawFlags {
  prompts?: string
  count: number
  best?: number
  rerank?: RerankerName
  out: string
  scale: number
  sheet?: string
  truncate?: boolean
  json?: boolean
}

interface Drawn {
  prompt: string
  file: string
  image: GeneratedImage
}

const sheetColumns = 8
const sheetTile = 128

/** Adds the command `generate`. */
export function addGenerate(program: Command, context: CliContext): void {
  const command = program
    .command('generate')
    .summary('draw pictures from text')
    .description('Draws pictures from prompts and writes them as PNG files.')
    .argument('[prompts...]', 'what to draw; quote a prompt that has spaces')
    .option('--prompts <file>', "read prompts from a file, one a line; '-' is standard input")
    .option('-n, --count <integer>', 'candidates to draw for each prompt', integer(1, 1024), 1)
    .option('--best <integer>', 'keep the best of them', integer(1, 1024))
    .addOption(
      new Option(
        '--rerank <how>',
        "what decides which are the best: the model's matcher of pictures and texts (default where it has one), or the likelihood that " +
          'it gives the prompt as their description',
      ).choices(RERANKERS),
    )
  addDrawOptions(command)
    .option(
      '-o, --out <path>',
      'a folder, or a .png file where one picture is kept; files that are there are replaced',
      '.',
    )
    .option('--scale <integer>', 'enlarge each pixel to a square of this side', integer(1, 64), 1)
    .option('--sheet <file>', 'also write all pictures with their prompts to one PNG file')
    .option('--truncate', 'cut prompts that are longer than the model reads, which is an error otherwise')
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Temperature, top-k and top-p are those of the bundle unless given. Files are called <prompt>.png, or <prompt>-1.png and so on,
the best first, where several are kept.

Examples:
  $ ernie-vilg generate 红苹果
  $ ernie-vilg generate 红苹果 绿苹果 --count 16 --best 2 --scale 4 --out pictures --sheet pictures/all.png
  $ ernie-vilg generate 小狗 --seed 7 --temperature 0.5 --out dog.png --json
  $ ernie-vilg generate --prompts prompts.txt --out pictures`,
    )
    .action(async (prompts: string[], flags: Flags) => generate(context, command, prompts, flags))
}

async function generate(context: CliContext, command: Command, given: string[], flags: Flags): Promise<void> {
  const { count, best, rerank, out } = flags
  if (best !== undefined && best > count) command.error(`error: --best ${best} is more than --count ${count}`)
  if (rerank !== undefined && best === undefined)
    command.error(`error: --rerank ${rerank} needs --best, the number of pictures to keep`)
  const prompts = [...given, ...(flags.prompts === undefined ? [] : await readLines(context, flags.prompts))]
  if (prompts.length === 0)
    command.error('error: no prompt: give one as an argument, or a file of them with --prompts')
  const kept = best ?? count
  if (isPngPath(out) && prompts.length * kept > 1) {
    command.error(
      `error: --out ${out} is one file, and ${prompts.length * kept} pictures are kept; give a folder`,
    )
  }
  const begun = performance.now()
  await using model = await loadBundle(context, flags)
  checkPrompts(model, prompts, flags.truncate ?? false)
  const drawn = await draw(context, model, prompts, flags)
  const numbered = flags.sheet === undefined ? false : await writeSheet(flags.sheet, drawn)
  const seconds = (performance.now() - begun) / 1000
  if (flags.json) {
    const images = drawn.map(({ prompt, file, image }) => ({
      prompt,
      file,
      width: image.width * flags.scale,
      height: image.height * flags.scale,
      seed: image.seed,
      candidate: image.candidate,
      logProbability: image.logProbability,
      ...(image.score === undefined ? {} : { score: image.score }),
    }))
    const { device, precision } = model.generator
    const sheet = flags.sheet === undefined ? {} : { sheet: flags.sheet }
    printJson(context, { model: model.name, device, precision, images, ...sheet, seconds })
    return
  }
  for (const [i, { prompt, file, image }] of drawn.entries()) {
    const score = image.score === undefined ? '' : `, score ${image.score.toFixed(2)}`
    const place = numbered ? `${i + 1}. ${prompt}: ` : ''
    print(
      context,
      `${place}${file}  (seed ${image.seed}, candidate ${image.candidate}, log-probability ${image.logProbability.toFixed(2)}${score})`,
    )
  }
  if (flags.sheet !== undefined) print(context, flags.sheet)
}

/** Before anything is drawn: the last of many prompts should not fail after an hour of the others. */
function checkPrompts(
  { textTokenizer, generator }: ErnieVilg,
  prompts: readonly string[],
  truncate: boolean,
): void {
  for (const [i, prompt] of prompts.entries()) {
    try {
      textTokenizer.encode(prompt, { length: generator.config.textLength, truncate })
    } catch (error) {
      throw about(`prompt ${i + 1} of ${prompts.length}`, error)
    }
  }
}

async function draw(
  context: CliContext,
  model: ErnieVilg,
  prompts: readonly string[],
  flags: Flags,
): Promise<Drawn[]> {
  const { count, best, rerank, out, scale } = flags
  const sampler = new Sampler(model)
  const names = new UniqueNames()
  const progress = new CliProgress(context, 'drawing')
  const drawn: Drawn[] = []
  try {
    for (const [i, prompt] of prompts.entries()) {
      const images = await sampler.textToImage(prompt, {
        ...drawOptions(flags),
        count,
        ...(best === undefined ? {} : { best }),
        ...(rerank === undefined ? {} : { reranker: rerank }),
        truncate: flags.truncate ?? false,
        signal: context.signal,
        onProgress: (event) => progress.update((i + overall(event)) / prompts.length, prompt),
      })
      const name = names.next(fileNameOf(prompt))
      for (const [place, image] of images.entries()) {
        const file = isPngPath(out) ? out : pngIn(out, images.length === 1 ? name : `${name}-${place + 1}`)
        await image.toFile(file, { scale })
        drawn.push({ prompt, file, image })
      }
      progress.update((i + 1) / prompts.length, prompt)
    }
  } finally {
    progress.stop()
  }
  return drawn
}

/** The share of a whole call; drawing takes nearly all of its time. */
function overall({ phase, fraction }: ProgressEvent): number {
  if (phase === 'decode') return 0.85 * fraction
  return phase === 'vqgan' ? 0.85 + 0.1 * fraction : 0.95 + 0.05 * fraction
}

/** Returns whether the tiles have numbers in place of prompts. */
async function writeSheet(path: string, drawn: readonly Drawn[]): Promise<boolean> {
  const { png, numbered } = await contactSheet(
    drawn.map(({ image }) => image),
    {
      columns: sheetColumns,
      tileSize: Math.max(sheetTile, drawn[0]!.image.width),
      captions: drawn.map(({ prompt }) => prompt),
    },
  )
  await writeFileWhole(path, png)
  return numbered
}
