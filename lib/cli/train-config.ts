import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import { BUNDLE_FILE, BUNDLE_FOLDERS, readBundle } from '../model/bundle-file.ts'
import { CONFIG_FILE, readJson } from '../model/config-file.ts'
import { checkGeneratorConfig, type GeneratorConfig } from '../model/generator-config.ts'
import {
  checkImageTokenizerConfig,
  type ImageTokenizerConfig,
  reductionOf,
} from '../model/image-tokenizer-config.ts'
import {
  type BundleTrainingConfig,
  changeBundleConfig,
  DEFAULT_SIZES,
  defaultBundleConfig,
  fineTuningConfig,
} from '../trainer/bundle/config.ts'
import { rejectUnknownKeys } from '../validate.ts'
import { imageTokenizerFolder } from './tokenize.ts'

/** Models that training begins with instead of fresh ones. */
export interface GivenModels {
  imageTokenizer?: { folder: string; config: Readonly<Required<ImageTokenizerConfig>> }
  /** Of a bundle that is trained on. */
  generator?: { folder: string; config: Readonly<Required<GeneratorConfig>> }
  /** Folder of its vocabulary. */
  vocabulary?: string
}

/** Looks at what `--from` and `--image-tokenizer` name. */
export async function openGiven(flags: { from?: string; imageTokenizer?: string }): Promise<GivenModels> {
  if (flags.from === undefined) {
    if (flags.imageTokenizer === undefined) return {}
    return { imageTokenizer: await openTokenizer(await imageTokenizerFolder(flags.imageTokenizer)) }
  }
  if (flags.imageTokenizer !== undefined) {
    const text =
      'Expected --from or --image-tokenizer, received both: a bundle is trained on with its own image tokenizer'
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: 'image-tokenizer' })
  }
  await readBundle(flags.from, false)
  const folder = join(flags.from, BUNDLE_FOLDERS.generator)
  const config = checkGeneratorConfig(
    await readJson(
      join(folder, CONFIG_FILE),
      `Expected a generator beside ${BUNDLE_FILE}, found no ${CONFIG_FILE} in ${folder}`,
    ),
  )
  return {
    imageTokenizer: await openTokenizer(join(flags.from, BUNDLE_FOLDERS.imageTokenizer)),
    generator: { folder, config },
    vocabulary: join(flags.from, BUNDLE_FOLDERS.textTokenizer),
  }
}

async function openTokenizer(folder: string) {
  const path = join(folder, CONFIG_FILE)
  const missing = `Expected an image tokenizer in ${folder}, found no ${CONFIG_FILE}`
  return { folder, config: checkImageTokenizerConfig(await readJson(path, missing)) }
}

/** The file of `--config`. */
export async function readChanges(path: string): Promise<Record<string, unknown>> {
  const changes = await readJson(path, `Expected the settings of a training in ${path}, found no such file`)
  rejectUnknownKeys(`the config in ${path}`, changes, ['text', 'imageTokenizer', 'generator', 'sampling'])
  return changes
}

/** The resolution that a config asks for. */
export function sizeOf(changes: Record<string, unknown>): number | undefined {
  const model = (changes.imageTokenizer as { model?: { resolution?: unknown } } | undefined)?.model
  return typeof model?.resolution === 'number' ? model.resolution : undefined
}

/** What decides a config besides the file. */
export interface ConfigInput {
  /** Side of the pictures. */
  size: number
  /** That of `--size`, whose defaults a config with another one changes. */
  flag: number
  pairs: number
  changes: Record<string, unknown>
  given: GivenModels
}

/** The defaults for these pictures, with the changes of the file, and the models that are there. */
export function configOf({ size, flag, pairs, changes, given }: ConfigInput): BundleTrainingConfig {
  const isKnown = (DEFAULT_SIZES as readonly number[]).includes(size)
  const base = defaultBundleConfig(isKnown ? size : flag, pairs)
  const { imageTokenizer, generator } = given
  if (generator !== undefined) {
    refuseSection(changes, 'text', '--from', 'the vocabulary is that of the bundle')
    const { model } = (changes.generator ?? {}) as { model?: unknown }
    if (model !== undefined)
      refuseSection({ 'generator.model': model }, 'generator.model', '--from', 'it stays')
  }
  if (imageTokenizer !== undefined) {
    const flagName = generator === undefined ? '--image-tokenizer' : '--from'
    refuseSection(changes, 'imageTokenizer', flagName, 'nothing of it is trained')
  }
  const config = changeBundleConfig(generator === undefined ? base : fineTuningConfig(base, pairs), changes)
  if (imageTokenizer === undefined) return config
  const { codebookSize, resolution } = imageTokenizer.config
  if (generator !== undefined) {
    const { textVocab: _, ...model } = generator.config
    return { ...config, generator: { ...config.generator, model } }
  }
  const grid = resolution / reductionOf(imageTokenizer.config)
  const model = { ...config.generator.model, imageVocab: codebookSize, grid }
  return { ...config, generator: { ...config.generator, model } }
}

function refuseSection(changes: object, section: string, flag: string, why: string): void {
  if (!(section in changes)) return
  const text = `Expected no section ${section} in the config with ${flag}: ${why}`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: `config.${section}` })
}
