import type { Command } from 'commander'
import { Sampler } from '../sampler/sampler.ts'
import { addCaptionOptions, captionOptions, type CaptionFlags } from './caption-options.ts'
import { addModelOptions, addOutputOptions, loadBundle, type ModelFlags } from './arguments.ts'
import { type CliContext, print, printJson } from './context.ts'

interface Flags extends ModelFlags, CaptionFlags {
  json?: boolean
}

/** Adds the command `answer`. */
export function addAnswer(program: Command, context: CliContext): void {
  const command = program
    .command('answer')
    .summary('answer a question about a picture')
    .description(
      'Answers a question about a picture (PNG, JPEG, WebP, GIF, AVIF, TIFF; cut to its middle square), with a model that was trained to: ' +
        'info says what one was trained for.',
    )
    .argument('<image>', 'a picture')
    .argument('<question>', 'what to ask')
  addCaptionOptions(command, 'answers')
  addModelOptions(command)
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Beams are searched, unless one of --temperature, --top-k, --top-p and --seed asks for samples (--temperature 0 is greedy).

Examples:
  $ ernie-vilg answer --model my-model apple.png 主要是什么颜色？
  $ ernie-vilg answer --model my-model apple.png 这是水果吗？ --count 3 --json`,
    )
    .action(async (image: string, question: string, flags: Flags) =>
      answer(context, command, image, question, flags),
    )
}

async function answer(
  context: CliContext,
  command: Command,
  file: string,
  question: string,
  flags: Flags,
): Promise<void> {
  const options = captionOptions(command, flags)
  const begun = performance.now()
  await using model = await loadBundle(context, flags)
  const texts = await new Sampler(model).answer(file, question, { ...options, signal: context.signal })
  const seconds = (performance.now() - begun) / 1000
  if (flags.json) {
    const { device, precision } = model.generator
    const answers = texts.map(({ text, logProbability, ended }) => ({ text, logProbability, ended }))
    printJson(context, { model: model.name, device, precision, file, question, answers, seconds })
    return
  }
  if (texts.length === 1) print(context, texts[0]!.text)
  else {
    for (const { text, logProbability } of texts)
      print(context, `${text}  (log-probability ${logProbability.toFixed(2)})`)
  }
}
