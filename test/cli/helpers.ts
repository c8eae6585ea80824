import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import type { ExecutionContext } from 'ava'
import { run } from '../../lib/cli/run.ts'
import { writePng } from '../../lib/index.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { characters, picture, tinyBundle, type TinyBundleOptions } from '../sampler/bundle.ts'

/** What a command left behind. */
export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/** Runs a command in this process, `input` being its standard input. */
export async function cli(args: readonly string[], input = ''): Promise<Outcome> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const read = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? ''
  const code = await run(args, { stdin: Readable.from([input]), stdout, stderr })
  return { code, stdout: read(stdout), stderr: read(stderr) }
}

/** Runs a command that must do its work, and gives the JSON object that it wrote. */
export async function cliJson(
  t: ExecutionContext,
  args: readonly string[],
): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await cli([...args, '--json'])
  t.is(code, 0, stderr)
  return JSON.parse(stdout) as Record<string, unknown>
}

/** The folder of a random bundle that is quick to run. */
export async function savedBundle(t: ExecutionContext, options: TinyBundleOptions = {}): Promise<string> {
  const folder = join(await temporaryFolder(t), 'bundle')
  const model = await tinyBundle(t, options)
  await model.save(folder)
  await model.dispose()
  return folder
}

/** A folder of pictures of 8 x 8 pixels with captions of characters that the bundle knows. */
export async function pictureFolder(t: ExecutionContext, count: number): Promise<string> {
  const folder = join(await temporaryFolder(t), 'pictures')
  await mkdir(folder)
  for (let i = 0; i < count; i++) {
    const { pixels, width, height } = picture(i)
    await writePng(join(folder, `${i}.png`), pixels, width, height)
    const caption = `${characters[i % characters.length]}${characters[(3 * i + 1) % characters.length]}`
    await writeFile(join(folder, `${i}.txt`), `${caption}\n大${caption}\n`)
  }
  return folder
}

const stage = { steps: 4, batch: 2, evaluateEvery: 2, training: { warmupSteps: 1 } }

/** The config of a training that takes seconds. */
export const smallTraining = {
  imageTokenizer: {
    ...stage,
    model: { resolution: 16, multipliers: [1, 1], codebookSize: 16, latentChannels: 8, codebookDim: 4 },
  },
  generator: {
    ...stage,
    sampleEvery: 4,
    model: { layers: 2, hidden: 16, heads: 1, imageVocab: 16, grid: 8, textLength: 8 },
  },
}
