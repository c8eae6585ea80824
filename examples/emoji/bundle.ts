import { readdir, stat } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { writeFileWhole } from '../../lib/data/image.ts'
import { writeBundle } from '../../lib/trainer/bundle/bundle-stage.ts'
import {
  type Measurements,
  readMeasurements,
  type StageMeasurements,
} from '../../lib/trainer/bundle/measurements.ts'
import type { PairData } from '../../lib/trainer/bundle/pair-data.ts'
import { paths, type StageContext } from '../../lib/trainer/bundle/stages.ts'
import { formatNumber, formatSeconds } from '../../lib/trainer/progress.ts'
import type { EmojiConfig } from './config.ts'
import type { EmojiDataset } from './dataset.ts'

/** What the stages share, and where the bundle goes. */
export interface EmojiContext extends StageContext {
  config: EmojiConfig
  data: PairData
  items: EmojiDataset
  bundle: string
}

/** Writes what was trained as a bundle in bfloat16, with a README whose numbers are those of measurements.json beside it. */
export async function writeEmojiBundle(context: EmojiContext): Promise<boolean> {
  const { folder, bundle, config } = context
  await writeBundle(
    context,
    bundle,
    {
      name: 'emoji',
      description: `Draws emoji of ${config.data.size} x ${config.data.size} pixels from Chinese texts, describes such pictures in Chinese and answers questions about them`,
    },
    {
      generator: paths(folder).answers,
      trainedFor: ['text-to-image', 'image-to-text', 'visual-question-answering'],
    },
  )
  const measurements = await readMeasurements(folder)
  const json = `${JSON.stringify({ ...measurements, config }, null, 2)}\n`
  await writeFileWhole(join(bundle, 'measurements.json'), Buffer.from(json))
  const bytes = await folderBytes(bundle)
  const readme = readmeText(context, measurements, bytes)
  await writeFileWhole(join(bundle, 'README.md'), Buffer.from(readme))
  context.note(`bundle: ${(bytes / 1e6).toFixed(1)} MB in ${bundle}`)
  return true
}

async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const sizes = await Promise.all(files.map((file) => stat(join(file.parentPath, file.name))))
  return sizes.reduce((sum, { size }) => sum + size, 0)
}

function readmeText(
  { config, data }: EmojiContext,
  { imageTokenizer, generator, answers, matcher }: Measurements,
  bytes: number,
): string {
  const { size } = config.data
  const { layers, hidden, heads, grid, kernel, textLength, imageVocab } = config.generator.model
  return `# The emoji model

The small model that comes with \`ernie-vilg\`: it draws pictures of ${size} x ${size} pixels from Chinese texts, describes such
pictures in Chinese and answers questions about them. It knows ${data.train.length} emoji by name, and combinations of what they have in common, such as a skin tone of a person whose
other tones it has seen. It knows nothing else: of a text about something else, it makes some emoji.

\`npm run train:emoji\` makes it from nothing (see \`examples/emoji\`). The numbers below are those of \`measurements.json\`.

| part            | what it is                                                                                 | weights |
| --------------- | ------------------------------------------------------------------------------------------ | ------- |
| generator       | ${layers} layers, ${hidden} hidden units, ${heads} heads, window ${kernel}, ${textLength} text tokens, ${grid} x ${grid} image tokens | ${parametersOf(generator)} |
| image tokenizer | VQGAN, ${imageVocab} codes, ${size} x ${size} pixels to ${grid} x ${grid} tokens | ${parametersOf(imageTokenizer)} |
${matcherPart(config, matcher)}
All weights are bfloat16; the folder has ${(bytes / 1e6).toFixed(1)} MB.

## What it cost

On ${cpus().length} cores (${cpus()[0]?.model.trim() ?? 'unknown'}):

| stage           | steps | pictures a step | time |
| --------------- | ----- | --------------- | ---- |
${costRow('image tokenizer', imageTokenizer)}
${costRow('generator', generator)}
${costRow('questions', answers)}
${matcher === undefined ? '' : `${costRow('matcher', matcher)}\n`}
## How good it is

On the ${data.heldOut.length} held-out pictures, which training never saw:

| measure | value |
| ------- | ----- |
${heldOutRows(config, { imageTokenizer, generator, answers, matcher })}

## Licences

The pictures that it was trained on are Google's Noto emoji (Apache License 2.0), the texts are from the Unicode CLDR (Unicode
License v3): see [LICENSES.md](../../examples/emoji/LICENSES.md). The model is under the Apache License 2.0, as the rest of the package.
`
}

function parametersOf(stage: StageMeasurements | undefined): string {
  return stage === undefined ? 'unknown' : `${(stage.parameters / 1e6).toFixed(1)} M`
}

function matcherPart({ matcher: { model } }: EmojiConfig, stage: StageMeasurements | undefined): string {
  if (stage === undefined) return ''
  const { layers, hidden, heads, dim } = model
  const what = `two towers of ${layers} layers, ${hidden} hidden units, ${heads} heads, to ${dim} dimensions`
  return `| matcher | ${what} | ${parametersOf(stage)} |\n`
}

function costRow(name: string, stage: StageMeasurements | undefined): string {
  if (stage === undefined) return `| ${name} | not measured | | |`
  return `| ${name} | ${stage.steps} | ${stage.batch} | ${formatSeconds(stage.seconds)} |`
}

function heldOutRows(
  config: EmojiConfig,
  { imageTokenizer, generator, answers, matcher }: Measurements,
): string {
  const row = (what: string, value: unknown, unit: string) =>
    `| ${what} | ${typeof value === 'number' ? formatNumber(value) : 'not measured'} ${unit} |`
  return [
    row('pictures after the image tokenizer, PSNR', imageTokenizer?.heldOut?.psnr, 'dB'),
    row(
      `codes in use, of ${config.imageTokenizer.model.codebookSize}`,
      imageTokenizer?.heldOut?.codesUsed,
      '',
    ),
    row('text to image, loss an image token', generator?.heldOut?.textToImage, 'nats'),
    row('image to text, loss a text token', generator?.heldOut?.imageToText, 'nats'),
    row('answers, loss a text token', answers?.heldOut?.imageToText, 'nats'),
    ...(matcher === undefined
      ? []
      : [
          row('matcher, pictures that find their name among all', matcher.heldOut?.imageToTextAccuracy, ''),
          row('matcher, names that find their picture among all', matcher.heldOut?.textToImageAccuracy, ''),
        ]),
  ].join('\n')
}
