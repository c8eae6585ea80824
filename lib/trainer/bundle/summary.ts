import { formatNumber, formatSeconds } from '../progress.ts'
import { readMeasurements, type StageMeasurements } from './measurements.ts'
import { paths } from './stages.ts'

/** Of held-out data, what is worth a line; the rest is in `measurements.json`. */
const shown = [
  'psnr',
  'perplexity',
  'loss',
  'textToImage',
  'imageToText',
  'imageToTextAccuracy',
  'textToImageAccuracy',
]

/** What the run in `folder` came to, as lines of text: what was trained, for how long, how good it is and where to look. */
export async function summarize(folder: string): Promise<string> {
  const { imageTokenizer, generator, answers, matcher } = await readMeasurements(folder)
  return [
    ...(imageTokenizer === undefined
      ? []
      : stage('image tokenizer', imageTokenizer, paths(folder).imageTokenizerRun)),
    ...(generator === undefined ? [] : stage('generator', generator, paths(folder).generatorRun)),
    ...(answers === undefined ? [] : stage('answers', answers, paths(folder).answersRun)),
    ...(matcher === undefined ? [] : stage('matcher', matcher, paths(folder).matcherRun)),
  ].join('\n')
}

function stage(
  title: string,
  { parameters, steps, batch, seconds, heldOut }: StageMeasurements,
  folder: string,
) {
  const numbers = shown.flatMap((key) => {
    const value = heldOut?.[key]
    return typeof value === 'number' ? [`${key} ${formatNumber(value)}`] : []
  })
  return [
    `${title}: ${formatNumber(parameters / 1e6)} million weights, ${steps} steps of ${batch} in ${formatSeconds(seconds)}`,
    ...(numbers.length === 0 ? [] : [`  held out: ${numbers.join(', ')}`]),
    `  curves, samples and TensorBoard's files: ${folder}`,
  ]
}
