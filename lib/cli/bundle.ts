import { type Command, Option } from 'commander'
import { assembleBundle } from '../model/assemble-bundle.ts'
import { type Task, TASKS } from '../model/bundle-file.ts'
import { PLAIN_SAMPLING } from '../sampler/options.ts'
import { addOutputOptions, integer, number } from './arguments.ts'
import { type CliContext, print, printJson } from './context.ts'

interface Flags {
  name?: string
  description?: string
  trainedFor?: Task[]
  temperature: number
  topK: number
  topP: number
  json?: boolean
}

/** Adds the command `bundle`. */
export function addBundle(program: Command, context: CliContext): void {
  const command = program
    .command('bundle')
    .summary('make a folder of converted parts a model that draws')
    .description(
      'Checks that the parts in a folder (generator, image-tokenizer, text-tokenizer) fit each other, and writes its bundle.json.',
    )
    .argument('<folder>', 'the folder with the parts')
    .option('--name <text>', 'what the model is called')
    .option('--description <text>', 'what it draws and describes, in which language, what it was trained on')
    .addOption(
      new Option(
        '--trained-for <tasks...>',
        'default: all that the generator can do but answering questions',
      ).choices(TASKS),
    )
    .option(
      '--temperature <number>',
      'with which it draws unless told otherwise',
      number({ min: 0, max: 1000 }),
      PLAIN_SAMPLING.temperature,
    )
    .option(
      '--top-k <integer>',
      'only the most probable so many, 0: all',
      integer(0, 2 ** 24),
      PLAIN_SAMPLING.topK,
    )
    .option(
      '--top-p <number>',
      'only those that together reach this mass',
      number({ above: 0, max: 1 }),
      PLAIN_SAMPLING.topP,
    )
  addOutputOptions(command)
    .addHelpText(
      'after',
      `
Example:
  $ ernie-vilg bundle malevich --name Malevich --top-k 2048 --top-p 0.995`,
    )
    .action(async (folder: string, flags: Flags) => bundle(context, folder, flags))
}

async function bundle(context: CliContext, folder: string, flags: Flags): Promise<void> {
  const { json, temperature, topK, topP, ...info } = flags
  const made = await assembleBundle(folder, { ...info, samplingDefaults: { temperature, topK, topP } })
  if (json) printJson(context, { folder, ...made })
  else print(context, `${folder}: ${made.name}, for ${made.trainedFor.join(', ')}`)
}
