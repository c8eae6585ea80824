import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { backendInfo, type CudaInfo } from '../backend-info.ts'
import { VilgError } from '../errors.ts'
import { SHIPPED_MODEL } from '../model/bundle-file.ts'
import { type ModelFacts, modelFacts } from '../model/model-facts.ts'
import { packageFolder } from '../native/binding.ts'
import { addOutputOptions } from './arguments.ts'
import { type CliContext, print, printJson } from './context.ts'

interface Flags {
  model?: string
  json?: boolean
}

/** Adds the command `info`. */
export function addInfo(program: Command, context: CliContext): void {
  const command = program
    .command('info')
    .summary('say what the library computes on, and what a model is')
    .description('Says what the library computes on, and what a model is, without loading its weights.')
    .option(
      '-m, --model <folder>',
      'folder of the bundle (default: the small model that ships with the package, if it is there)',
    )
  addOutputOptions(command)
    .addHelpText('after', '\nExamples:\n  $ ernie-vilg info\n  $ ernie-vilg info --model my-model --json')
    .action(async (flags: Flags) => info(context, flags))
}

async function info(context: CliContext, { model, json }: Flags): Promise<void> {
  const { version, path } = packageFolder()
  const backend = backendInfo()
  const facts = model === undefined ? await shippedFacts(join(path, SHIPPED_MODEL)) : await modelFacts(model)
  const node = process.versions.node
  const platform = `${process.platform}-${process.arch}`
  if (json) {
    printJson(context, { version, node, platform, backend, model: facts })
    return
  }
  const { device, isa, isas, threads, memory, cuda, fallbackReason } = backend
  const rows: [string, string][] = [
    ['ernie-vilg', `${version}, Node ${node}, ${platform}`],
    ['device', fallbackReason === undefined ? device : `${device} (${fallbackReason})`],
    ...(cuda === null ? [] : cudaRows(cuda)),
    ['instructions', `${isa} (of ${isas.join(', ')})`],
    ['threads', String(threads)],
    ['memory', `${gigabytes(memory.available)} of ${gigabytes(memory.total)} can be had`],
    ...(facts === null
      ? [['model', 'none ships with this copy of the package'] as [string, string]]
      : modelRows(facts)),
  ]
  for (const [name, value] of rows) print(context, `${name.padEnd(16)}${value}`)
}

function cudaRows({ plugin, devices, libraries }: CudaInfo): [string, string][] {
  return [
    ...devices.map((found): [string, string] => [
      found.device,
      `${found.name}, compute capability ${found.computeCapability}, ${found.multiprocessors} multiprocessors, ` +
        `${gigabytes(found.memory.available)} of ${gigabytes(found.memory.total)} can be had`,
    ]),
    ['cuda plugin', plugin],
    ...Object.entries(libraries).map(([name, found]): [string, string] => [
      name,
      'missing' in found
        ? `not used: ${found.missing}`
        : `${found.version}${found.path ? `, ${found.path}` : ''}`,
    ]),
  ]
}

/** Null where no model ships. */
async function shippedFacts(folder: string): Promise<ModelFacts | null> {
  try {
    await stat(join(folder, 'bundle.json'))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw new VilgError(
      'ERR_VILG_IO',
      `Cannot read ${folder}: ${(cause as Error).message}`,
      { path: folder },
      { cause },
    )
  }
  return modelFacts(folder)
}

function modelRows(facts: ModelFacts): [string, string][] {
  const { generator, imageTokenizer, textTokenizer, matcher } = facts
  const { layers, hidden, heads, textLength, grid, kernel, attention } = generator.config
  const { resolution, codebookSize } = imageTokenizer.config
  const kind = imageTokenizer.config.model === 'dvae' ? 'dvae' : imageTokenizer.config.quantizer
  const { temperature, topK, topP } = facts.samplingDefaults
  return [
    ['model', `${facts.name} (${facts.folder})`],
    ['', facts.description],
    ['trained for', facts.trainedFor.join(', ')],
    [
      'generator',
      `${millions(generator.parameters)} parameters: ${layers} layers, ${hidden} hidden units, ${heads} heads, ${typeof attention === 'string' ? attention : 'layer by layer'} attention, ` +
        `window ${kernel}, ${textLength} text tokens, ${grid} x ${grid} image tokens`,
    ],
    [
      'image tokenizer',
      `${millions(imageTokenizer.parameters)} parameters: ${kind}, ${resolution} x ${resolution} pixels, ${codebookSize} codes`,
    ],
    ['text tokenizer', `${textTokenizer.tokens} tokens`],
    ...(matcher === undefined ? [] : [matcherRow(matcher)]),
    ['draws with', `temperature ${temperature}, top-k ${topK}, top-p ${topP}`],
    ['files', megabytes(facts.fileBytes)],
    [
      'weights need',
      `${megabytes(facts.memoryBytes.bfloat16)} in bfloat16, ${megabytes(facts.memoryBytes.float32)} in float32`,
    ],
  ]
}

function matcherRow({ config, parameters }: NonNullable<ModelFacts['matcher']>): [string, string] {
  const { layers, hidden, heads, dim } = config
  return [
    'matcher',
    `${millions(parameters)} parameters: two towers of ${layers} layers, ${hidden} hidden units, ${heads} heads, to ${dim} dimensions`,
  ]
}

const millions = (value: number) => `${(value / 1e6).toFixed(1)} M`
const megabytes = (value: number) => `${(value / 1e6).toFixed(1)} MB`
const gigabytes = (value: number) => `${(value / 1e9).toFixed(1)} GB`
