import { pixelsToTensor, type RgbImage, tensorToPixels } from '../data/image.ts'
import type { ImageTextPair } from '../data/pairs.ts'
import { CounterRandom } from '../data/random.ts'
import type { ErnieVilg } from '../model/ernie-vilg.ts'
import { checkSignal } from '../native/call.ts'
import { Sampler } from '../sampler/sampler.ts'
import { expectInteger, expectNumber, outOfRange, rejectUnknownKeys } from '../validate.ts'

/** How a share was counted. */
export interface Share {
  /** How many were tried. */
  count: number
  correct: number
  /** correct / count. */
  share: number
}

/** How well a model does on some pairs. */
export interface PairsEvaluation {
  /** Pairs there are to choose from. */
  pairs: number
  /** Pictures drawn from names (the first captions): is the nearest picture of the gallery the name's own? */
  drawnFromNames: Share
  /** The same from captions chosen at random among all of a picture. */
  drawnFromCaptions: Share
  /** Pictures described: is the best beam the picture's name? */
  describedByName: Share
  /** Is it one of the picture's captions? */
  describedByCaption: Share
  /** Pictures as tokens and back. */
  reconstruction: {
    count: number
    /** Peak signal-to-noise ratio in decibels, of all pixels together as bytes. */
    psnr: number
  }
  /** What went wrong, up to ten of each kind. */
  mistakes: {
    drawn: { prompt: string; nearest: string }[]
    described: { name: string; text: string }[]
  }
}

/** Where an evaluation is. */
export interface EvaluationProgress {
  /** In (0, 1]; never falls. */
  fraction: number
  /** What is measured. */
  what: string
}

/** Options of {@link evaluatePairs}. */
export interface EvaluationOptions {
  /** Pictures that drawn ones are compared with; must hold the pairs' own. The pairs unless given. */
  gallery?: readonly ImageTextPair[]
  /** How many pairs to try, all where there are fewer; 200 unless given. */
  count?: number
  /** Decides which pairs and captions are tried, and what is drawn; 1 unless given. */
  seed?: number
  /** Of the drawing, one candidate a prompt; 0.2 unless given. */
  temperature?: number
  /** Width of the beam search; 4 unless given. */
  beams?: number
  signal?: AbortSignal
  onProgress?: (event: EvaluationProgress) => void
}

const optionKeys = ['gallery', 'count', 'seed', 'temperature', 'beams', 'signal', 'onProgress'] as const
const shownMistakes = 10
const imagesPerPass = 16

/**
 * Measures a model in both directions on pairs whose pictures have the model's size. Pictures that look the same are the same: a drawn
 * picture may be as near to a twin of the prompt's own, and a description may be the name of one.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT, ERR_VILG_SHAPE_MISMATCH; the errors of the sampler
 */
export async function evaluatePairs(
  model: ErnieVilg,
  pairs: readonly ImageTextPair[],
  options: EvaluationOptions = {},
): Promise<PairsEvaluation> {
  rejectUnknownKeys('evaluation options', options, optionKeys)
  const { gallery = pairs, signal, onProgress } = options
  if (pairs.length === 0) throw outOfRange('pairs', 'at least one pair', pairs)
  const seed = expectInteger('seed', options.seed ?? 1, { min: 0 })
  const count = expectInteger('count', options.count ?? 200, { min: 1 })
  const temperature = expectNumber('temperature', options.temperature ?? 0.2, { min: 0, max: 1000 })
  const beams = expectInteger('beams', options.beams ?? 4, { min: 1, max: 64 })
  checkSignal(signal)
  const random = new CounterRandom(seed)
  const chosen = random.shuffled(pairs).slice(0, count)
  const captions = chosen.map((pair) => pair.captions[random.below(pair.captions.length)]!)
  const sampler = new Sampler(model)
  const work: Work = {
    model,
    sampler,
    gallery,
    beams,
    draw: { seed, temperature },
    ...(signal ? { signal } : {}),
  }
  // of four passes of about the same cost; reconstruction is quick
  const step = (pass: number, what: string) => (done: number) =>
    onProgress?.({ fraction: (pass + done / chosen.length) / 4, what })

  const reconstruction = await reconstruct(work, chosen, step(0, 'reconstruction'))
  const names = chosen.map((pair) => pair.captions[0]!)
  const byName = await drawAll(work, chosen, names, step(1, 'drawing from names'))
  const byCaption = await drawAll(work, chosen, captions, step(2, 'drawing from captions'))
  const described = await describeAll(work, chosen, step(3, 'describing'))
  return {
    pairs: pairs.length,
    drawnFromNames: share(byName.map(({ isOwn }) => isOwn)),
    drawnFromCaptions: share(byCaption.map(({ isOwn }) => isOwn)),
    describedByName: share(described.map(({ isName }) => isName)),
    describedByCaption: share(described.map(({ isCaption }) => isCaption)),
    reconstruction,
    mistakes: {
      drawn: byName
        .filter(({ isOwn }) => !isOwn)
        .slice(0, shownMistakes)
        .map(({ prompt, nearest }) => ({ prompt, nearest })),
      described: described
        .filter(({ isName }) => !isName)
        .slice(0, shownMistakes)
        .map(({ name, text }) => ({ name, text })),
    },
  }
}

interface Work {
  model: ErnieVilg
  sampler: Sampler
  gallery: readonly ImageTextPair[]
  beams: number
  draw: { seed: number; temperature: number }
  signal?: AbortSignal
}

async function reconstruct(
  { model, signal }: Work,
  pairs: readonly ImageTextPair[],
  step: (done: number) => void,
) {
  const { imageTokenizer } = model
  const { resolution: side } = imageTokenizer.config
  let sum = 0
  for (let first = 0; first < pairs.length; first += imagesPerPass) {
    const part = pairs.slice(first, first + imagesPerPass)
    const options = { count: part.length, signal }
    const { indices } = await imageTokenizer.encode(pixelsToTensor(part), options)
    const decoded = tensorToPixels(await imageTokenizer.decode(indices, options), {
      width: side,
      height: side,
    })
    decoded.forEach((image, i) => (sum += squaredError(image, part[i]!)))
    step(first + part.length)
  }
  const mean = sum / (pairs.length * side * side * 3)
  return { count: pairs.length, psnr: mean === 0 ? Infinity : 10 * Math.log10(255 ** 2 / mean) }
}

async function drawAll(
  { sampler, gallery, draw, signal }: Work,
  pairs: readonly ImageTextPair[],
  prompts: readonly string[],
  step: (done: number) => void,
): Promise<{ prompt: string; nearest: string; isOwn: boolean }[]> {
  const results = []
  for (const [i, pair] of pairs.entries()) {
    const prompt = prompts[i]!
    const [image] = await sampler.textToImage(prompt, {
      ...draw,
      truncate: true,
      ...(signal ? { signal } : {}),
    })
    const { pair: nearest, error } = nearestOf(image!, gallery)
    results.push({ prompt, nearest: nearest.captions[0]!, isOwn: squaredError(image!, pair) <= error })
    step(i + 1)
  }
  return results
}

async function describeAll(
  { model, sampler, gallery, beams, signal }: Work,
  pairs: readonly ImageTextPair[],
  step: (done: number) => void,
) {
  const { textTokenizer } = model
  // as tokens: a decoded text may have other spaces than the caption
  const key = (text: string) => textTokenizer.encode(text).ids.join()
  const results = []
  for (const [i, pair] of pairs.entries()) {
    const [best] = await sampler.imageToText(pair, { beams, ...(signal ? { signal } : {}) })
    const said = [textTokenizer.clsId, ...best!.tokens, textTokenizer.sepId].join()
    const same = [pair, ...gallery.filter((other) => squaredError(other, pair, 0) === 0)]
    results.push({
      name: pair.captions[0]!,
      text: best!.text,
      isName: same.some(({ captions }) => key(captions[0]!) === said),
      isCaption: same.some(({ captions }) => captions.some((caption) => key(caption) === said)),
    })
    step(i + 1)
  }
  return results
}

/** The picture of the gallery with the least squared error. */
export function nearestOf<Pair extends RgbImage>(
  image: RgbImage,
  gallery: readonly Pair[],
): { pair: Pair; error: number } {
  let pair = gallery[0]!
  let error = Infinity
  for (const other of gallery) {
    const found = squaredError(image, other, error)
    if (found < error) [pair, error] = [other, found]
  }
  return { pair, error }
}

/** The sum of squared differences of all bytes; something above `limit` as soon as it is above that. */
export function squaredError(a: RgbImage, b: RgbImage, limit = Infinity): number {
  if (a.width !== b.width || a.height !== b.height) {
    const sizes = `${b.width} x ${b.height}`
    throw outOfRange(
      'the pictures',
      `pictures of ${a.width} x ${a.height} pixels`,
      sizes,
      'ERR_VILG_SHAPE_MISMATCH',
    )
  }
  const { pixels: p } = a
  const { pixels: q } = b
  const block = 192 // a row of 64 pixels between two looks at the limit
  let sum = 0
  for (let first = 0; first < p.length; first += block) {
    const last = Math.min(first + block, p.length)
    for (let i = first; i < last; i++) {
      const difference = p[i]! - q[i]!
      sum += difference * difference
    }
    if (sum > limit) return sum
  }
  return sum
}

function share(outcomes: readonly boolean[]): Share {
  const correct = outcomes.filter((outcome) => outcome).length
  return { count: outcomes.length, correct, share: correct / outcomes.length }
}

/** The numbers as lines of a table, a column for each set of pairs. */
export function evaluationTable(sets: Readonly<Record<string, PairsEvaluation>>): string {
  const names = Object.keys(sets)
  const percent = ({ correct, count, share: value }: Share) =>
    `${(100 * value).toFixed(1)} % (${correct} of ${count})`
  const rows: [string, (one: PairsEvaluation) => string][] = [
    ['drawn from its name, nearest is its own', ({ drawnFromNames }) => percent(drawnFromNames)],
    ['drawn from a caption, nearest is its own', ({ drawnFromCaptions }) => percent(drawnFromCaptions)],
    ['described, best beam is its name', ({ describedByName }) => percent(describedByName)],
    ['described, best beam is one of its captions', ({ describedByCaption }) => percent(describedByCaption)],
    [
      'as tokens and back, PSNR',
      ({ reconstruction }) => `${reconstruction.psnr.toFixed(2)} dB (${reconstruction.count})`,
    ],
  ]
  const first = Math.max(...rows.map(([label]) => label.length))
  const line = (label: string, cells: readonly string[]) =>
    `${label.padEnd(first)}  ${cells.map((cell) => cell.padStart(22)).join('  ')}`
  return [
    line('', names),
    ...rows.map(([label, cell]) =>
      line(
        label,
        names.map((name) => cell(sets[name]!)),
      ),
    ),
  ].join('\n')
}
