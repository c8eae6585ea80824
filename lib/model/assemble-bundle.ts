import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import { PLAIN_SAMPLING } from '../sampler/options.ts'
import { TextTokenizer } from '../tokenizer/text-tokenizer.ts'
import { expectString, rejectUnknownKeys } from '../validate.ts'
import { BUNDLE_FILE, BUNDLE_FOLDERS, type BundleInfo, bundleText, checkBundleInfo } from './bundle-file.ts'
import { findMisfit, tasksOf } from './bundle-fit.ts'
import { CONFIG_FILE, readModelFolder } from './config-file.ts'
import { checkGeneratorConfig } from './generator-config.ts'
import { checkImageTokenizerConfig } from './image-tokenizer-config.ts'
import { checkMatcherConfig } from './matcher-config.ts'
import { readIfThere, writeDraft, writeFolder } from './model-folder.ts'

/**
 * Makes a bundle of a folder that has its parts, in `generator`, `image-tokenizer`, `text-tokenizer` and, where there is one, `matcher`, by writing its `bundle.json`: what
 * converted checkpoints need to draw. No weights are loaded.
 *
 * ```ts
 * await assembleBundle('malevich', { name: 'Malevich', samplingDefaults: { temperature: 1, topK: 2048, topP: 0.995 } })
 * await using model = await ErnieVilg.load('malevich')
 * ```
 *
 * @param info as of ErnieVilg.create; what is not given is as there
 * @throws ERR_VILG_IO where a part is not there; ERR_VILG_CHECKPOINT_INCOMPATIBLE where they do not fit each other; ERR_VILG_INVALID_ARGUMENT
 */
export async function assembleBundle(folder: string, info: Partial<BundleInfo> = {}): Promise<BundleInfo> {
  expectString('folder', folder)
  rejectUnknownKeys('bundle info', info, ['name', 'description', 'trainedFor', 'samplingDefaults'])
  const generator = await readModelFolder(
    join(folder, BUNDLE_FOLDERS.generator),
    checkGeneratorConfig,
    async (config) => config,
  )
  const imageTokenizer = await readModelFolder(
    join(folder, BUNDLE_FOLDERS.imageTokenizer),
    checkImageTokenizerConfig,
    async (config) => config,
  )
  const textTokenizer = await TextTokenizer.load(join(folder, BUNDLE_FOLDERS.textTokenizer))
  const matcherFolder = join(folder, BUNDLE_FOLDERS.matcher)
  const hasMatcher = (await readIfThere(join(matcherFolder, CONFIG_FILE))) !== undefined
  const matcher = hasMatcher
    ? await readModelFolder(matcherFolder, checkMatcherConfig, async (config) => config)
    : undefined
  const checked = checkBundleInfo({
    name: info.name ?? 'unnamed',
    description: info.description ?? '',
    trainedFor: info.trainedFor ?? tasksOf(generator),
    samplingDefaults: info.samplingDefaults ?? PLAIN_SAMPLING,
  })
  const misfit = findMisfit({
    generator,
    imageTokenizer,
    textTokenizer,
    matcher,
    trainedFor: checked.trainedFor,
  })
  if (misfit !== undefined) {
    throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', `${folder}: ${misfit}`, { path: folder })
  }
  await writeFolder(folder, BUNDLE_FILE, (draft) =>
    writeDraft(join(draft, BUNDLE_FILE), bundleText(checked, hasMatcher)),
  )
  return checked
}
