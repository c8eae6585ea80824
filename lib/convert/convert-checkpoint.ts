import { join } from 'node:path'
import { streamSafetensors } from '../checkpoint/stream-safetensors.ts'
import type { TensorSource } from '../checkpoint/tensor-source.ts'
import { CONFIG_FILE, configText, WEIGHTS_FILE } from '../model/config-file.ts'
import { checkNewFolder, writeDraft, writeNewFolder } from '../model/model-folder.ts'
import { checkSignal } from '../native/call.ts'
import { expectInteger, expectOneOf, expectString, outOfRange, rejectUnknownKeys } from '../validate.ts'
import { dalleDvae } from './dalle-dvae.ts'
import { type Family, incompatible, listed } from './family.ts'
import { openWeights } from './joined-source.ts'
import { planTensors, usedNames } from './plan-tensors.ts'
import { ruDalle } from './ru-dalle.ts'
import { tamingVqgan } from './taming-vqgan.ts'
import { readYaml } from './yaml-file.ts'

const families = Object.freeze({
  'taming-vqgan': tamingVqgan,
  'dalle-dvae': dalleDvae,
  'ru-dalle': ruDalle,
} as const satisfies Record<string, Family>)

/** The families of public checkpoints that {@link convertCheckpoint} converts. */
export type ConversionKind = keyof typeof families
/** The same as a list. */
export const CONVERSION_KINDS = Object.freeze(Object.keys(families) as ConversionKind[])

/** What to convert, and into what. */
export interface ConvertOptions {
  /**
   * The file of the weights, of any format that openCheckpoint reads; or the files of a checkpoint that comes in several, as DALL-E's
   * `encoder.pkl` and `decoder.pkl`, whose tensors then have the name of their file before their own.
   */
  weights: string | readonly string[]
  /** The folder of the model, which must not be there yet, or be empty. */
  to: string
  /** The family; guessed by the names of the tensors unless given. */
  from?: ConversionKind
  /** The family's own configuration file (YAML or JSON): what the weights do not say is taken from it, and what they say must be in it. */
  config?: string
  /** What comes before the names of the model's tensors, for files of several models. */
  prefix?: string
  /** Side of the pictures in pixels, in place of the configuration file's. */
  resolution?: number
  signal?: AbortSignal
  /** Called after each piece that is written, with a share from 0 to 1; what it throws ends the work. */
  onProgress?: (event: { phase: 'write'; fraction: number }) => void
}

/** What was converted. */
export interface ConversionReport {
  kind: ConversionKind
  /** What came before the names of the model's tensors. */
  prefix: string
  to: string
  /** What is now in `config.json`. */
  config: object
  /** Tensors of the model. */
  tensors: number
  /** Names in the checkpoint that the model does not need: losses, optimizers, other models. */
  unused: string[]
  /** What was assumed, for people. */
  notes: string[]
}

const optionKeys = ['weights', 'to', 'from', 'config', 'prefix', 'resolution', 'signal', 'onProgress']

/**
 * Makes a model folder of a public checkpoint. Tensors go through in pieces, so that memory does not grow with the file; the folder is
 * absent until it is whole, whatever happens. Nothing of the checkpoint is run.
 *
 * ```ts
 * await convertCheckpoint({ weights: 'last.ckpt', config: 'model.yaml', to: 'vqgan' })
 * await using tokenizer = await ImageTokenizer.load('vqgan')
 * ```
 *
 * @throws the errors of openCheckpoint; ERR_VILG_CHECKPOINT_INCOMPATIBLE where the file is of no known family, of another one than `from`,
 *   has several models and no `prefix` was given, or lacks tensors (`details.missing`); ERR_VILG_INVALID_ARGUMENT where the folder is there
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<ConversionReport> {
  rejectUnknownKeys('convertCheckpoint options', options, optionKeys)
  const weights = checkWeights(options?.weights)
  const { signal, onProgress } = options
  const to = expectString('to', options.to)
  const from = options.from === undefined ? undefined : expectOneOf('from', options.from, CONVERSION_KINDS)
  const prefix = options.prefix === undefined ? undefined : expectString('prefix', options.prefix)
  const resolution =
    options.resolution === undefined ? undefined : expectInteger('resolution', options.resolution, { min: 1 })
  checkSignal(signal)
  signal?.throwIfAborted()
  await checkNewFolder(to)
  const config =
    options.config === undefined ? undefined : await readYaml(expectString('config', options.config))

  await using source = await openWeights(weights)
  const found = findModel(source, from, prefix)
  const plan = families[found.kind].plan(source, found.prefix, { config, resolution })
  await writeNewFolder(to, async (draft) => {
    await streamSafetensors(join(draft, WEIGHTS_FILE), planTensors(source, plan), { signal, onProgress })
    await writeDraft(join(draft, CONFIG_FILE), configText(plan.config))
  })
  const used = usedNames(plan)
  const unused = source.names.filter((name) => !used.has(name))
  return { ...found, to, config: plan.config, tensors: plan.tensors.size, unused, notes: plan.notes }
}

function checkWeights(weights: unknown): readonly string[] {
  if (!Array.isArray(weights)) return [expectString('weights', weights)]
  if (weights.length === 0) throw outOfRange('weights', 'at least one file', weights)
  return weights.map((path, i) => expectString(`weights[${i}]`, path))
}

function findModel(
  source: TensorSource,
  from: ConversionKind | undefined,
  given: string | undefined,
): { kind: ConversionKind; prefix: string } {
  const models = (from === undefined ? CONVERSION_KINDS : [from]).flatMap((kind) =>
    families[kind].prefixes(source).map((prefix) => ({ kind, prefix })),
  )
  const fitting = given === undefined ? models : models.filter(({ prefix }) => prefix === given)
  if (fitting.length === 1) return fitting[0]!
  const known =
    from === undefined
      ? CONVERSION_KINDS.map((kind) => families[kind].title).join(', ')
      : families[from].title
  if (fitting.length === 0) {
    const under = given === undefined ? '' : ` under "${given}"`
    const names = `${source.names.length} tensors: ${listed(source.names)}`
    throw incompatible(
      source,
      `expected the weights of a model of a known family (${known})${under}, found ${names}`,
    )
  }
  const prefixes = fitting.map(({ prefix }) => JSON.stringify(prefix)).join(', ')
  throw incompatible(
    source,
    `expected one model, or which one by its prefix, found ${fitting.length}: ${prefixes}`,
    {
      prefixes: fitting.map(({ prefix }) => prefix),
    },
  )
}
