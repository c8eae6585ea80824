import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { SafetensorsFile } from '../checkpoint/safetensors.ts'
import { TextTokenizer } from '../tokenizer/text-tokenizer.ts'
import { BUNDLE_FOLDERS, type BundleInfo, readBundle } from './bundle-file.ts'
import { readModelFolder } from './config-file.ts'
import { checkGeneratorConfig, type GeneratorConfig } from './generator-config.ts'
import { checkImageTokenizerConfig, type ImageTokenizerConfig } from './image-tokenizer-config.ts'
import { checkMatcherConfig, type MatcherConfig } from './matcher-config.ts'

/** What a bundle is, as far as its files say it without their weights being loaded. */
export interface ModelFacts extends BundleInfo {
  folder: string
  generator: { config: Readonly<Required<GeneratorConfig>>; parameters: number }
  imageTokenizer: { config: Readonly<Required<ImageTokenizerConfig>>; parameters: number }
  textTokenizer: { tokens: number }
  /** Absent where there is none. */
  matcher?: { config: Readonly<Required<MatcherConfig>>; parameters: number }
  /** Of all files in the folder. */
  fileBytes: number
  /** What the weights take when loaded, activations and caches aside. */
  memoryBytes: { float32: number; bfloat16: number }
}

/**
 * Reads what a bundle is; of the weights, only the headers.
 *
 * @throws the errors of {@link ErnieVilg.load}, those of damaged weights aside
 */
export async function modelFacts(folder: string): Promise<ModelFacts> {
  const { info, hasMatcher } = await readBundle(folder, false)
  const [generator, imageTokenizer, textTokenizer, fileBytes, matcher] = await Promise.all([
    partFacts(join(folder, BUNDLE_FOLDERS.generator), checkGeneratorConfig),
    partFacts(join(folder, BUNDLE_FOLDERS.imageTokenizer), checkImageTokenizerConfig),
    TextTokenizer.load(join(folder, BUNDLE_FOLDERS.textTokenizer)),
    folderBytes(folder),
    hasMatcher ? partFacts(join(folder, BUNDLE_FOLDERS.matcher), checkMatcherConfig) : undefined,
  ])
  const matrices = generator.matrices + imageTokenizer.matrices + (matcher?.matrices ?? 0)
  const all = generator.parameters + imageTokenizer.parameters + (matcher?.parameters ?? 0)
  return {
    ...info,
    folder,
    generator: { config: generator.config, parameters: generator.parameters },
    imageTokenizer: { config: imageTokenizer.config, parameters: imageTokenizer.parameters },
    textTokenizer: { tokens: textTokenizer.vocabSize },
    ...(matcher === undefined ? {} : { matcher: { config: matcher.config, parameters: matcher.parameters } }),
    fileBytes,
    // vectors are float32 always
    memoryBytes: { float32: 4 * all, bfloat16: 4 * all - 2 * matrices },
  }
}

function partFacts<Config>(folder: string, check: (config: unknown) => Config) {
  return readModelFolder(folder, check, async (config, weights) => {
    await using file = await SafetensorsFile.open(weights)
    let parameters = 0
    let matrices = 0
    for (const { shape } of file.tensors.values()) {
      const elements = shape.reduce((product, side) => product * side, 1)
      parameters += elements
      if (shape.length > 1) matrices += elements
    }
    return { config, parameters, matrices }
  })
}

async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = await Promise.all(files.map((file) => stat(join(file.parentPath, file.name))))
  return sizes.reduce((sum, { size }) => sum + size, 0)
}
