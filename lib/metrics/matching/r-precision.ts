import { CounterRandom } from '../../data/random.ts'
import { checkSignal } from '../../native/call.ts'
import {
  expectInteger,
  expectNumbers,
  expectString,
  outOfRange,
  rangeError,
  rejectUnknownKeys,
  typeMismatch,
} from '../../validate.ts'
import type { ImageTextScorer } from './scorer.ts'
import { checkWords, wordSwaps } from './word-swaps.ts'

/** A picture and the caption that it was drawn from. */
export interface DrawnPicture<Image> {
  image: Image
  caption: string
}

/** What {@link rPrecision} found. */
export interface RPrecision {
  /** Pictures that were judged. */
  count: number
  /** The mean over the groups, in [0, 1]; papers give it in percent. */
  mean: number
  /** Of the groups' shares, over their number. */
  standardDeviation: number
  /** The share of pictures in each group whose own caption scored highest. */
  groups: number[]
}

/** What {@link rPrecisionHard} found. */
export interface RPrecisionHard {
  /** The mean over the categories, each counting as much as any other. */
  mean: number
  /** By name; without those that no caption has a word of. */
  categories: Record<string, RPrecision>
}

/** What both variants take. */
export interface RPrecisionOptions {
  /** Wrong captions beside the right one, chosen at random; 99 unless given. */
  negatives?: number
  /** The pictures are shuffled into so many groups of about one size; 10 unless given, fewer where there are fewer pictures. */
  groups?: number
  /** Decides about wrong captions and groups; 1 unless given. */
  seed?: number
  signal?: AbortSignal
  /** Called with a fraction that rises to 1, after each picture. */
  onProgress?: (event: { fraction: number }) => void
}

/** Options of {@link rPrecisionHard}. */
export interface RPrecisionHardOptions extends RPrecisionOptions {
  /** Words that may be swapped for each other, by the name of their category: `{ color: ['red', 'green'], number: ['one', 'two'] }`. */
  categories: Readonly<Record<string, readonly string[]>>
}

const optionKeys = ['negatives', 'groups', 'seed', 'signal', 'onProgress'] as const

/**
 * R-precision, the easy variant (Huang et al., "Unifying multimodal transformer for bi-directional image and text generation", 4.1, as their code does it):
 * how often a picture fits its own caption better than each of 99 captions of other pictures, as a scorer sees it. Captions
 * with the same text as the own are no wrong ones. A wrong caption that scores as high as the own counts against the picture.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT; what the scorer throws
 */
export async function rPrecision<Image>(
  pictures: readonly DrawnPicture<Image>[],
  score: ImageTextScorer<Image>,
  options: RPrecisionOptions = {},
): Promise<RPrecision> {
  rejectUnknownKeys('rPrecision options', options, optionKeys)
  const { negatives, groups, seed } = checkOptions(options)
  checkPictures(pictures, score)
  const texts = [...new Set(pictures.map(({ caption }) => caption))]
  if (texts.length <= negatives) {
    const expected = `more than ${negatives} different captions (or fewer negatives)`
    throw rangeError('pictures', expected, `${texts.length} different captions`)
  }
  const places = new Map(texts.map((text, place) => [text, place]))
  const random = new CounterRandom(seed)
  const judge = new Judge(score, options, pictures.length)
  const outcomes: boolean[] = []
  for (const { image, caption } of pictures) {
    const own = places.get(caption)!
    const wrong = choose(texts.length - 1, negatives, random).map((i) => texts[i < own ? i : i + 1]!)
    outcomes.push(await judge.isBest(image, caption, wrong))
  }
  return grouped(outcomes, groups, random)
}

/**
 * R-precision, the hard variant (the same source): how often a picture fits its own caption better than captions in which one word was swapped for
 * another of its category ({@link wordSwaps}). Each category is judged by the pictures whose captions have a word of it; where it has more than
 * `negatives` other words, as many are chosen at random.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT; what the scorer throws
 */
export async function rPrecisionHard<Image>(
  pictures: readonly DrawnPicture<Image>[],
  score: ImageTextScorer<Image>,
  options: RPrecisionHardOptions,
): Promise<RPrecisionHard> {
  rejectUnknownKeys('rPrecisionHard options', options, [...optionKeys, 'categories'])
  const { negatives, groups, seed } = checkOptions(options ?? {})
  checkPictures(pictures, score)
  const categories = checkCategories(options?.categories)
  const work = categories.map(([name, words]) => ({
    name,
    tasks: pictures
      .map(({ image, caption }) => ({ image, caption, wrong: wordSwaps(caption, words) }))
      .filter(({ wrong }) => wrong.length > 0),
  }))
  const total = work.reduce((sum, { tasks }) => sum + tasks.length, 0)
  if (total === 0) throw outOfRange('categories', 'at least one word that a caption has', options.categories)
  const random = new CounterRandom(seed)
  const judge = new Judge(score, options, total)
  const results: Record<string, RPrecision> = {}
  for (const { name, tasks } of work) {
    if (tasks.length === 0) continue
    const outcomes: boolean[] = []
    for (const { image, caption, wrong } of tasks) {
      const some = choose(wrong.length, negatives, random).map((i) => wrong[i]!)
      outcomes.push(await judge.isBest(image, caption, some))
    }
    results[name] = grouped(outcomes, groups, random)
  }
  return { mean: meanOf(Object.values(results).map(({ mean }) => mean)), categories: results }
}

/** Asks the scorer, with progress. */
class Judge<Image> {
  readonly #score: ImageTextScorer<Image>
  readonly #options: RPrecisionOptions
  readonly #total: number
  #done = 0

  constructor(score: ImageTextScorer<Image>, options: RPrecisionOptions, total: number) {
    this.#score = score
    this.#options = options
    this.#total = total
  }

  async isBest(image: Image, caption: string, wrong: readonly string[]): Promise<boolean> {
    const { signal, onProgress } = this.#options
    signal?.throwIfAborted()
    const scores = expectNumbers(
      'the scores',
      await this.#score(image, [caption, ...wrong], { signal }),
      1 + wrong.length,
    )
    onProgress?.({ fraction: ++this.#done / this.#total })
    return scores.every((score, i) => i === 0 || score < scores[0]!)
  }
}

/** `count` different integers below `length`, or all of them where there are no more. */
function choose(length: number, count: number, random: CounterRandom): number[] {
  if (length <= count) return Array.from({ length }, (_, i) => i)
  const places = new Set<number>()
  while (places.size < count) places.add(random.below(length))
  return [...places]
}

function grouped(outcomes: readonly boolean[], count: number, random: CounterRandom): RPrecision {
  const shuffled = random.shuffled(outcomes)
  const { length } = shuffled
  const number = Math.min(count, length)
  const groups = Array.from({ length: number }, (_, i) => {
    const part = shuffled.slice(Math.floor((i * length) / number), Math.floor(((i + 1) * length) / number))
    return part.filter((outcome) => outcome).length / part.length
  })
  const mean = meanOf(groups)
  return {
    count: length,
    mean,
    standardDeviation: Math.sqrt(meanOf(groups.map((share) => (share - mean) ** 2))),
    groups,
  }
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function checkOptions(options: RPrecisionOptions): { negatives: number; groups: number; seed: number } {
  checkSignal(options.signal)
  return {
    negatives: expectInteger('negatives', options.negatives ?? 99, { min: 1 }),
    groups: expectInteger('groups', options.groups ?? 10, { min: 1 }),
    seed: expectInteger('seed', options.seed ?? 1, { min: 0 }),
  }
}

function checkPictures(pictures: unknown, score: unknown): void {
  if (!Array.isArray(pictures)) throw typeMismatch('pictures', 'an array of pictures with captions', pictures)
  if (pictures.length === 0) throw outOfRange('pictures', 'at least one picture', pictures)
  pictures.forEach((picture: Partial<DrawnPicture<unknown>> | null, i) =>
    expectString(`pictures[${i}].caption`, picture?.caption),
  )
  if (typeof score !== 'function') throw typeMismatch('score', 'a function', score)
}

function checkCategories(categories: unknown): [name: string, words: string[]][] {
  if (typeof categories !== 'object' || categories === null || Array.isArray(categories)) {
    throw typeMismatch('categories', 'an object of word lists', categories)
  }
  return Object.entries(categories).map(([name, words]) => {
    const checked = checkWords(`categories.${name}`, words)
    if (checked.length < 2) throw outOfRange(`categories.${name}`, 'at least two words', words)
    return [name, checked]
  })
}
