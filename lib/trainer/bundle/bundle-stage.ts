import { ErnieVilg } from '../../model/ernie-vilg.ts'
import { Generator } from '../../model/generator.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import { paths, type StageContext } from './stages.ts'

/** Writes what was trained as a bundle in bfloat16. */
export async function writeBundle(
  { folder, config }: StageContext,
  bundle: string,
  about: { name: string; description: string },
): Promise<void> {
  const from = paths(folder)
  const textTokenizer = await TextTokenizer.load(from.vocabulary)
  const imageTokenizer = await ImageTokenizer.load(from.imageTokenizer)
  let model: ErnieVilg | undefined
  let generator: Generator | undefined
  try {
    generator = await Generator.load(from.generator)
    model = ErnieVilg.create({
      generator,
      imageTokenizer,
      textTokenizer,
      ...about,
      trainedFor: ['text-to-image', 'image-to-text'],
      samplingDefaults: config.sampling,
    })
    await model.save(bundle, { precision: 'bfloat16' })
  } finally {
    await Promise.all([model?.dispose(), generator?.dispose(), imageTokenizer.dispose()])
  }
}
