import type { Command } from 'commander'
import { VilgError } from '../errors.ts'
import type { GeneratedText } from '../sampler/generated-image.ts'
import { Sampler } from '../sampler/sampler.ts'
import { addModelOptions, addOutputOptions, loadBundle, type ModelFlags } from './arguments.ts'
import { addCaptionOptions, type CaptionFlags, captionOptions } from './caption-options.ts'
import { type CliContext, CliProgress, note, print, printJson } from './context.ts'

interface Flags extends ModelFlags, CaptionFlags {
  json?: boolean
}

type Described =
  | { file: string; texts: { text: string; logProbability: number; ended: boolean }[] }
  | { file: string; error: { code: string; message: string } }

/** Adds the command `caption`. */
export function addCaption(program: Command, context: CliContext): void {
  const command = program
    .command('caption')
    .summary('describe pictures in text')
    .description('Describes pictures (PNG, JPEG, WebP, GIF, AVIF, TIFF; cut to their middle square).')
    .argument('<images...>', 'the pictures')
  addCaptionOptions(command, 'descriptions')
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Beams are searched, unless one of --temperature, --top-k, --top-p and --seed asks for samples (--temperature 0 is greedy).
A picture that cannot be read does not keep the others from being described; the exit code is 1 then.

Examples:
  $ ernie-vilg caption apple.png
  $ ernie-vilg caption *.png --count 3 --beams 8 --json
  $ ernie-vilg caption apple.png --count 5 --temperature 0.8 --seed 1`,
    )
    .action(async (images: string[], flags: Flags) => caption(context, command, images, flags))
}

async function caption(context: CliContext, command: Command, files: string[], flags: Flags): Promise<void> {
  const options = captionOptions(command, flags)
  const begun = performance.now()
  await using model = await loadBundle(context, flags)
  const sampler = new Sampler(model)
  const progress = new CliProgress(context, 'describing')
  const described: Described[] = []
  try {
    for (const [i, file] of files.entries()) {
      described.push(
        await describe(file, () => sampler.imageToText(file, { ...options, signal: context.signal })),
      )
      progress.update((i + 1) / files.length, file)
    }
  } finally {
    progress.stop()
  }
  const seconds = (performance.now() - begun) / 1000
  if (described.some((one) => 'error' in one)) context.exitCode = 1
  if (flags.json) {
    const { device, precision } = model.generator
    printJson(context, { model: model.name, device, precision, images: described, seconds })
    return
  }
  for (const one of described) {
    if ('error' in one) note(context, `error: ${one.error.message} (${one.error.code})`)
    else if (flags.count === 1) print(context, `${one.file}: ${one.texts[0]?.text ?? ''}`)
    else {
      print(context, `${one.file}:`)
      for (const { text, logProbability } of one.texts)
        print(context, `  ${text}  (log-probability ${logProbability.toFixed(2)})`)
    }
  }
}

/** A picture that is not there or no picture is told of; any other error ends the command. */
async function describe(file: string, work: () => Promise<GeneratedText[]>): Promise<Described> {
  try {
    const texts = await work()
    return { file, texts: texts.map(({ text, logProbability, ended }) => ({ text, logProbability, ended })) }
  } catch (error) {
    const isBadFile =
      error instanceof VilgError &&
      (error.code === 'ERR_VILG_INVALID_ARGUMENT' || error.code === 'ERR_VILG_IO')
    if (!isBadFile) throw error
    return { file, error: { code: error.code, message: error.message } }
  }
}
