import { type Command, InvalidArgumentError, Option } from 'commander'
import { VilgError } from '../errors.ts'
import { ErnieVilg } from '../model/ernie-vilg.ts'
import type { Device, Precision } from '../native/options.ts'
import { type CliContext, CliProgress } from './context.ts'

/** Reads an integer of an option; commander turns what is thrown into a usage error that names the option. */
export function integer(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isSafeInteger(value) || value < min || value > max) {
      const upTo = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`
      throw new InvalidArgumentError(`Expected an integer ${upTo}.`)
    }
    return value
  }
}

/** Reads a number of an option, with bounds that may be left out. */
export function number({
  min = -Infinity,
  max = Infinity,
  above = -Infinity,
}: NumberBounds): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isFinite(value) || value < min || value > max || value <= above) {
      const bounds = [
        above > -Infinity ? `above ${above}` : '',
        min > -Infinity ? `of at least ${min}` : '',
        max < Infinity ? `of at most ${max}` : '',
      ].filter((bound) => bound !== '')
      throw new InvalidArgumentError(`Expected a number ${bounds.join(' and ')}.`)
    }
    return value
  }
}
interface NumberBounds {
  min?: number
  max?: number
  above?: number
}

/** What {@link addModelOptions} adds. */
export interface ModelFlags {
  model?: string
  device: Device
  precision: Precision
}

/** `--model`, `--device` and `--precision`, of every command that loads a bundle. */
export function addModelOptions(command: Command): Command {
  return command
    .option(
      '-m, --model <folder>',
      'folder of the bundle (default: the small model that ships with the package)',
    )
    .option('--device <device>', "'auto', 'cpu', 'cuda' or 'cuda:<number>'", 'auto')
    .addOption(
      new Option('--precision <type>', 'how matrices are stored and multiplied')
        .choices(['float32', 'bfloat16'])
        .default('float32'),
    )
}

/** What {@link addDrawOptions} adds. */
export interface DrawFlags {
  seed?: number
  temperature?: number
  topK?: number
  topP?: number
}

/** How tokens are drawn. */
export function addDrawOptions(command: Command): Command {
  return command
    .option('--seed <integer>', 'same seed, same result (default: a random one)', integer(0))
    .option(
      '--temperature <number>',
      'above 1 more varied, below 1 more certain, 0 the most probable only',
      number({ min: 0, max: 1000 }),
    )
    .option(
      '--top-k <integer>',
      'draw from the k most probable tokens only; 0: from all',
      integer(0, 2 ** 24),
    )
    .option(
      '--top-p <number>',
      'draw from the most probable tokens of this mass only',
      number({ above: 0, max: 1 }),
    )
}

/** The flags of {@link addDrawOptions} that were given. */
export function drawOptions({ seed, temperature, topK, topP }: DrawFlags): DrawFlags {
  const all = { seed, temperature, topK, topP }
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined))
}

/** `--json` and `--debug`, of every command. */
export function addOutputOptions(command: Command): Command {
  return command
    .option('--json', 'write one JSON object to standard output, for programs')
    .option('--debug', 'show the stack of errors')
}

/** Loads the bundle of the flags, with a bar on a terminal. */
export async function loadBundle(
  context: CliContext,
  { model, device, precision }: ModelFlags,
): Promise<ErnieVilg> {
  const progress = new CliProgress(context, 'loading')
  try {
    return await ErnieVilg.load(model, {
      device,
      precision,
      signal: context.signal,
      onProgress: ({ fraction }) => progress.update(fraction),
    })
  } finally {
    progress.stop()
  }
}

/** The error with what it is about before its message, of the same code. */
export function about(what: string, error: unknown): unknown {
  if (!(error instanceof VilgError)) return error
  return new VilgError(error.code, `${what}: ${error.message}`, error.details, { cause: error })
}
