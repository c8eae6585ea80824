import { join } from 'node:path'
import type { Task } from '../../model/bundle-file.ts'
import { CONFIG_FILE } from '../../model/config-file.ts'
import { ErnieVilg } from '../../model/ernie-vilg.ts'
import { Generator } from '../../model/generator.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { Matcher } from '../../model/matcher.ts'
import { readIfThere } from '../../model/model-folder.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { paths, type StageContext } from './stages.ts'

const PAIR_TASKS: readonly Task[] = ['text-to-image', 'image-to-text']

/** Where a bundle differs from what the stage `generator` leaves. */
export interface BundleOptions {
  /** Folder of the generator. */
  generator?: string
  /** Both directions unless given. */
  trainedFor?: readonly Task[]
}

/** Writes what was trained as a bundle in bfloat16, with the matcher where one was. */
export async function writeBundle(
  { folder, config }: StageContext,
  bundle: string,
  about: { name: string; description: string },
  { generator: generatorFolder = paths(folder).generator, trainedFor = PAIR_TASKS }: BundleOptions = {},
): Promise<void> {
  const from = paths(folder)
  const textTokenizer = await TextTokenizer.load(from.vocabulary)
  const imageTokenizer = await ImageTokenizer.load(from.imageTokenizer)
  let model: ErnieVilg | undefined
  let generator: Generator | undefined
  let matcher: Matcher | undefined
  try {
    generator = await Generator.load(generatorFolder)
    const hasMatcher = (await readIfThere(join(from.matcher, CONFIG_FILE))) !== undefined
    if (hasMatcher) matcher = await Matcher.load(from.matcher)
    model = ErnieVilg.create({
      generator,
      imageTokenizer,
      textTokenizer,
      ...(matcher === undefined ? {} : { matcher }),
      ...about,
      trainedFor,
      samplingDefaults: config.sampling,
    })
    await model.save(bundle, { precision: 'bfloat16' })
  } finally {
    const parts = [model, generator, matcher, imageTokenizer]
    await Promise.all(parts.map((part) => part?.dispose()))
  }
}
