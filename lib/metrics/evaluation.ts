import { VilgError } from '../errors.ts'
import { pixelsToTensor, tensorToPixels } from '../data/image.ts'
import type { ImageTextPair } from '../data/pairs.ts'
import { CounterRandom } from '../data/random.ts'
import type { ErnieVilg } from '../model/ernie-vilg.ts'
import { checkSignal } from '../native/call.ts'
import { Sampler } from '../sampler/sampler.ts'
import { expectInteger, expectNumber, outOfRange, rejectUnknownKeys } from '../validate.ts'
import { type BestOf, drawBestOf } from './best-of.ts'
import { nearestOf, squaredError } from './pixel-distance.ts'
import { share, type Share } from './share.ts'

/** How well a model does on some pairs. */
export interface PairsEvaluation {
  /** Pairs there are to choose from. */
  pairs: number
  /** Pictures drawn from names (the first captions): is the nearest picture of the gallery the name's own? */
  drawnFromNames: Share
  /** The same from captions chosen at random among all of a picture. */
  drawnFromCaptions: Share
  /** The best of several candidates drawn from names, where `candidates` were asked for. */
  bestOf?: BestOf
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
  /**
   * Candidates of each name of which the best are kept in every way there is ({@link BestOf}), 2 to 1024; drawn with the model's own sampling
   * settings. Not measured unless given.
   */
  candidates?: number
  /** Width of the beam search; 4 unless given. */
  beams?: number
  signal?: AbortSignal
  onProgress?: (event: EvaluationProgress) => void
}

const optionKeys = [
  'gallery',
  'count',
  'seed',
  'temperature',
  'candidates',
  'beams',
  'signal',
  'onProgress',
] as const
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
  const candidates =
    options.candidates === undefined
      ? undefined
      : expectInteger('candidates', options.candidates, { min: 2, max: 1024 })
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
  // of passes of about the same cost, each candidate one; reconstruction is quick
  const passes = 4 + (candidates ?? 0)
  const step =
    (pass: number, what: string, cost = 1) =>
    (done: number) =>
      onProgress?.({ fraction: (pass + (cost * done) / chosen.length) / passes, what })

  const reconstruction = await reconstruct(work, chosen, step(0, 'reconstruction'))
  const names = chosen.map((pair) => pair.captions[0]!)
  const byName = await drawAll(work, chosen, names, step(1, 'drawing from names'))
  const byCaption = await drawAll(work, chosen, captions, step(2, 'drawing from captions'))
  const described = await describeAll(work, chosen, step(3, 'describing'))
  const bestOf =
    candidates === undefined
      ? undefined
      : await drawBestOf(model, chosen, {
          gallery,
          candidates,
          seed,
          signal,
          onDone: step(4, 'drawing candidates', candidates),
        })
  return {
    pairs: pairs.length,
    drawnFromNames: share(byName.map(({ isOwn }) => isOwn)),
    drawnFromCaptions: share(byCaption.map(({ isOwn }) => isOwn)),
    ...(bestOf === undefined ? {} : { bestOf }),
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
  if (imageTokenizer.decodedSide !== side) {
    throw new VilgError(
      'ERR_VILG_UNSUPPORTED',
      `Expected an image tokenizer whose pictures keep their size, received one that makes ${side} pixels a side ${imageTokenizer.decodedSide}`,
    )
  }
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

type Row = [label: string, cell: (one: PairsEvaluation) => string]

/** The numbers as lines of a table, a column for each set of pairs. */
export function evaluationTable(sets: Readonly<Record<string, PairsEvaluation>>): string {
  const names = Object.keys(sets)
  const percent = ({ correct, count, share: value }: Share) =>
    `${(100 * value).toFixed(1)} % (${correct} of ${count})`
  const bestOf = Object.values(sets).find((one) => one.bestOf !== undefined)?.bestOf
  const among = bestOf === undefined ? '' : `of ${bestOf.candidates} candidates`
  const rows: Row[] = [
    ['drawn from its name, nearest is its own', ({ drawnFromNames }) => percent(drawnFromNames)],
    ['drawn from a caption, nearest is its own', ({ drawnFromCaptions }) => percent(drawnFromCaptions)],
    ...(bestOf === undefined
      ? []
      : ([
          [`${among}, the first, nearest is its own`, (one) => percent(one.bestOf!.first)],
          [`${among}, the likeliest, nearest is its own`, (one) => percent(one.bestOf!.likelihood)],
        ] satisfies Row[])),
    ...(bestOf?.matcher === undefined
      ? []
      : ([
          [`${among}, the matcher's, nearest is its own`, (one) => percent(one.bestOf!.matcher!)],
        ] satisfies Row[])),
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
