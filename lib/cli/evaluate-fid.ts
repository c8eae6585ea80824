import { extname } from 'node:path'
import type { Command } from 'commander'
import { writeFileWhole } from '../data/image.ts'
import { VilgError } from '../errors.ts'
import { frechetDistance } from '../metrics/frechet/frechet-distance.ts'
import type { Gaussian } from '../metrics/frechet/gaussian.ts'
import { folderImages, imageStatistics } from '../metrics/frechet/image-statistics.ts'
import { type Inception, loadInception } from '../metrics/frechet/inception.ts'
import { readStatistics, writeStatistics } from '../metrics/frechet/statistics-file.ts'
import { addOutputOptions, integer } from './arguments.ts'
import { type CliContext, CliProgress, print, printJson } from './context.ts'

interface Flags {
  inception?: string
  batch: number
  out?: string
  json?: boolean
}

/** Statistics of one of the two sides. */
interface Side {
  path: string
  /** Not known of a file. */
  pictures?: number
  gaussian: Gaussian
}

/** Adds the commands `evaluate fid` and `evaluate statistics`. */
export function addEvaluateFid(program: Command, context: CliContext): void {
  const fid = program
    .command('fid')
    .summary('the Fréchet distance of two sets of pictures')
    .description("The Fréchet Inception distance of two sets of pictures, by pytorch-fid's definition.")
    .argument('<a>', 'a folder of pictures, or statistics of one (.npz)')
    .argument('<b>', 'the other')
  addInceptionOptions(fid).option('-o, --out <file>', 'also write the numbers as JSON to a file')
  addOutputOptions(fid)
    .addHelpText(
      'after',
      `
Papers compare 30,000 pictures: with fewer, the distance is larger for that alone. Folders need --inception, and the npm package
onnxruntime-node; docs/metrics.md says how to make the file. Statistics are those that pytorch-fid publishes (mu and sigma).

Examples:
  $ ernie-vilg evaluate fid drawn/ coco-val/ --inception inception.onnx
  $ ernie-vilg evaluate fid drawn.npz coco-val.npz --json`,
    )
    .action(async (a: string, b: string, flags: Flags) => distance(context, [a, b], flags))

  const statistics = program
    .command('statistics')
    .summary("write the statistics of a folder's pictures for fid")
    .description(
      'Writes mean and covariance of the features of a folder of pictures as pytorch-fid reads them.',
    )
    .argument('<folder>', 'pictures')
    .requiredOption('-o, --out <file>', 'the .npz file to write')
  addInceptionOptions(statistics)
  addOutputOptions(statistics)
    .addHelpText(
      'after',
      `
Example:
  $ ernie-vilg evaluate statistics coco-val/ --inception inception.onnx --out coco-val.npz`,
    )
    .action(async (folder: string, flags: Flags & { out: string }) => save(context, folder, flags))
}

function addInceptionOptions(command: Command): Command {
  return command
    .option('--inception <file>', 'Inception v3 as ONNX, for folders of pictures')
    .option('--batch <integer>', 'pictures given to Inception together', integer(1, 4096), 16)
}

async function distance(context: CliContext, paths: readonly [string, string], flags: Flags): Promise<void> {
  const begun = performance.now()
  const sides = await computeSides(context, paths, flags)
  const [a, b] = sides as [Side, Side]
  const fid = await frechetDistance(a.gaussian, b.gaussian, { signal: context.signal })
  const seconds = (performance.now() - begun) / 1000
  const [first, second] = sides.map(describe)
  const report = { fid, dimensions: a.gaussian.mean.length, a: first, b: second, seconds }
  if (flags.out !== undefined)
    await writeFileWhole(flags.out, Buffer.from(`${JSON.stringify(report, null, 2)}\n`))
  if (flags.json) printJson(context, report)
  else print(context, `FID ${fid.toFixed(4)}`)
}

async function save(context: CliContext, folder: string, flags: Flags & { out: string }): Promise<void> {
  if (isStatistics(folder)) {
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', `Expected a folder of pictures, received ${folder}`)
  }
  const sides = await computeSides(context, [folder], flags)
  const [side] = sides as [Side]
  await writeStatistics(flags.out, side.gaussian)
  const report = { out: flags.out, dimensions: side.gaussian.mean.length, ...describe(side) }
  if (flags.json) printJson(context, report)
  else print(context, `${flags.out}: ${side.pictures} pictures of ${folder}, ${report.dimensions} dimensions`)
}

function describe({ path, pictures }: Side): { path: string; pictures?: number } {
  return { path, ...(pictures === undefined ? {} : { pictures }) }
}

function isStatistics(path: string): boolean {
  return extname(path).toLowerCase() === '.npz'
}

async function computeSides(context: CliContext, paths: readonly string[], flags: Flags): Promise<Side[]> {
  // what is quickly found to be missing is said before an hour of work
  const folders = new Map<string, string[]>()
  for (const path of paths) if (!isStatistics(path)) folders.set(path, await folderImages(path))
  if (folders.size === 0) {
    return Promise.all(paths.map(async (path) => ({ path, gaussian: await readStatistics(path) })))
  }
  if (flags.inception === undefined) {
    const text = `Expected --inception <file> for the pictures of ${[...folders.keys()].join(' and ')}: docs/metrics.md says how to make one`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: 'inception' })
  }
  await using inception = await loadInception(flags.inception)
  const all = [...folders.values()].flat().length
  const progress = new CliProgress(context, 'reading pictures')
  let before = 0
  const sides: Side[] = []
  try {
    for (const path of paths) {
      const files = folders.get(path)
      if (!files) {
        sides.push({ path, gaussian: await readStatistics(path) })
        continue
      }
      const gaussian = await folderStatistics(context, files, inception, flags.batch, (done) =>
        progress.update((before + done) / all, path),
      )
      before += files.length
      sides.push({ path, pictures: files.length, gaussian })
    }
  } finally {
    progress.stop()
  }
  return sides
}

async function folderStatistics(
  { signal }: CliContext,
  files: readonly string[],
  inception: Inception,
  batch: number,
  onDone: (done: number) => void,
): Promise<Gaussian> {
  const statistics = await imageStatistics(files, inception, {
    batch,
    signal,
    onProgress: ({ done }) => onDone(done),
  })
  return statistics.gaussian()
}
