import { Command, CommanderError } from 'commander'
import { VilgError } from '../errors.ts'
import { packageFolder } from '../native/binding.ts'
import { interruptible, InterruptedError } from '../trainer/interrupt.ts'
import { addAnswer } from './answer.ts'
import { addBundle } from './bundle.ts'
import { addCaption } from './caption.ts'
import type { CliContext, CliStreams } from './context.ts'
import { addConvert } from './convert.ts'
import { addEvaluate } from './evaluate.ts'
import { addGenerate } from './generate.ts'
import { addInfo } from './info.ts'
import { addStudy } from './study.ts'
import { addTokenize } from './tokenize.ts'
import { addTrain } from './train.ts'

const usageError = 2

/**
 * Runs one command of `ernie-vilg`.
 *
 * @param argv the arguments after the program's name
 * @returns what the process should end with: 0 where the work was done, 1 after an error, 2 for wrong usage, 130 after Ctrl-C
 */
export async function run(argv: readonly string[], streams: CliStreams): Promise<number> {
  let debug = false
  try {
    return await interruptible(async (signal) => {
      const context: CliContext = { streams, signal, exitCode: 0 }
      const program = createProgram(context)
      program.hook('preAction', (_, command) => {
        debug = command.opts<{ debug?: boolean }>().debug ?? false
      })
      await program.parseAsync(argv, { from: 'user' })
      return context.exitCode
    })
  } catch (error) {
    // commander has said what is wrong, or shown the help that was asked for
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : usageError
    if (error instanceof InterruptedError) {
      streams.stderr.write(`${error.message}\n`)
      return error.signal === 'SIGINT' ? 130 : 143 // as a shell says of a process that a signal ended
    }
    streams.stderr.write(`${errorText(error, debug)}\n`)
    return 1
  }
}

function createProgram(context: CliContext): Command {
  const { stdout, stderr } = context.streams
  const program = new Command('ernie-vilg')
    .description(
      'Draws pictures from text and describes pictures in text, with one transformer.\n' +
        'Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.',
    )
    .version(packageFolder().version, '-V, --version')
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
    })
    .showHelpAfterError('(--help shows what the command takes)')
    .exitOverride()
    // options belong to the command that they come after: evaluate has commands with options of the same names
    .enablePositionalOptions()
    .addHelpText(
      'after',
      `
Examples:
  $ ernie-vilg generate 红苹果 --count 8 --best 1
  $ ernie-vilg caption apple.png
  $ ernie-vilg train --data pictures --out my-model
  $ ernie-vilg generate --help`,
    )
  for (const add of [
    addGenerate,
    addCaption,
    addAnswer,
    addTrain,
    addTokenize,
    addConvert,
    addBundle,
    addEvaluate,
    addStudy,
    addInfo,
  ])
    add(program, context)
  return program
}

/** `error: what happened (ERR_VILG_X)`, advice below where there is some. */
function errorText(error: unknown, debug: boolean): string {
  if (debug) return error instanceof Error ? debugText(error) : String(error)
  const code = (error as { code?: unknown } | undefined)?.code
  const [first = '', ...rest] = (error instanceof Error ? error.message : String(error)).split('\n')
  const shown = typeof code === 'string' ? ` (${code})` : ''
  const hint = error instanceof VilgError ? [] : ['  --debug shows where it came from']
  return [`error: ${first}${shown}`, ...rest, ...hint].join('\n')
}

function debugText(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${debugText(error.cause)}` : ''
  return `error: ${error.stack ?? error.message}${cause}`
}
