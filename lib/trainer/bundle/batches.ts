import { type RgbImage, pixelsToTensor } from '../../data/image.ts'
import { type ImageTextPair, type PairSource, shufflePairs } from '../../data/pairs.ts'
import { CounterRandom } from '../../data/random.ts'
import type { Direction } from '../../kernels.ts'
import type { TextTokenizer } from '../../tokenizer/text-tokenizer.ts'
import type { GeneratorBatch } from '../generator-learner.ts'
import type { ImageTokenizerBatch } from '../picture-learner.ts'
import type { RunBatches } from '../run.ts'
import type { BatchOptions } from './training-data.ts'

/**
 * Endless batches of pictures, half of them mirrored: it costs nothing, and doubles what the tokenizer sees. Which batch is
 * number i depends on `seed` and i alone.
 */
export async function* imageBatches(
  source: PairSource,
  { batch, seed, start }: BatchOptions,
): AsyncGenerator<ImageTokenizerBatch> {
  const mirror = choices(seed)
  let images: RgbImage[] = []
  for await (const { pair, position } of shufflePairs(source, { seed, start: start * batch })) {
    images.push(mirrorSome(pair, mirror.at(position)))
    if (images.length < batch) continue
    yield { images: pixelsToTensor(images) }
    images = []
  }
}

/** All pictures once, in order, in batches of at most `batch`. */
export async function* imageBatchesInOrder(
  source: PairSource,
  batch: number,
): AsyncGenerator<ImageTokenizerBatch> {
  for (let first = 0; first < source.length; first += batch) {
    yield { images: pixelsToTensor(await readPairs(source, first, batch)) }
  }
}

/** The `count` pairs from `first` on, or what there is of them. */
export function readPairs(source: PairSource, first: number, count: number): Promise<ImageTextPair[]> {
  const length = Math.min(count, source.length - first)
  return Promise.all(Array.from({ length }, (_, i) => source.read(first + i)))
}

/** Random numbers by the position of a pair in its stream. */
export function choices(seed: number): CounterRandom {
  return new CounterRandom(seed, 2 ** 40) // the epochs use the streams from 0 on
}

/** The picture as it is or mirrored, for a random integer. */
export function mirrorSome(image: RgbImage, random: number): RgbImage {
  return random % 2 === 0 ? image : mirrored(image)
}

function mirrored({ pixels, width, height }: RgbImage): RgbImage {
  const result = new Uint8Array(pixels.length)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (y * width + x) * 3
      const to = (y * width + (width - 1 - x)) * 3
      for (let channel = 0; channel < 3; channel++) result[to + channel] = pixels[from + channel]!
    }
  }
  return { pixels: result, width, height }
}

/** One pair of a batch. */
export interface TokenRow {
  ids: Int32Array
  valid: Uint8Array
  image: Int32Array
}

/** A batch of rows of one length. */
export function joinRows(rows: readonly TokenRow[]): GeneratorBatch {
  const { ids, image } = rows[0]!
  const batch = {
    text: new Int32Array(rows.length * ids.length),
    textValid: new Uint8Array(rows.length * ids.length),
    image: new Int32Array(rows.length * image.length),
  }
  for (const [i, row] of rows.entries()) {
    batch.text.set(row.ids, i * ids.length)
    batch.textValid.set(row.valid, i * ids.length)
    batch.image.set(row.image, i * image.length)
  }
  return batch
}

/** A picture as tokens, with its captions as tokens. */
interface TokenizedItem {
  captions: { ids: Int32Array; valid: Uint8Array }[]
  image: Int32Array
}

/** Makes token batches from pictures whose tokens are known. */
export class PairBatches {
  readonly #source: PairSource
  readonly #tokenized = new Map<string, TokenizedItem>()

  /**
   * Captions that are too long are cut.
   *
   * @param imageTokens the tokens of every picture, by id
   */
  constructor(
    source: PairSource,
    imageTokens: ReadonlyMap<string, Int32Array>,
    tokenizer: TextTokenizer,
    textLength: number,
  ) {
    this.#source = source
    for (let i = 0; i < source.length; i++) {
      const { id, captions } = source.describe(i)
      this.#tokenized.set(id, {
        captions: captions.map((caption) =>
          tokenizer.encode(caption, { length: textLength, truncate: true }),
        ),
        image: imageTokens.get(id)!,
      })
    }
  }

  /**
   * Endless batches, every picture with one of its captions: with its name with probability `nameShare`, else with one of the
   * others. Which batch is number i depends on `seed` and i alone.
   */
  async *shuffled({
    batch,
    seed,
    start,
    nameShare,
  }: BatchOptions & { nameShare: number }): AsyncGenerator<GeneratorBatch> {
    const choice = choices(seed)
    let chosen: { id: string; caption: number }[] = []
    const described = describedPairs(this.#source)
    const stream = shufflePairs(described, { seed, start: start * batch })
    for await (const { pair, position } of stream) {
      const caption = chooseCaption(pair.captions.length, nameShare, choice.at(position) / 2 ** 32)
      chosen.push({ id: pair.id, caption })
      if (chosen.length < batch) continue
      yield this.#batch(chosen)
      chosen = []
    }
  }

  /** All pictures once, in order, with their names, in batches of at most `batch`. */
  async *inOrder(batch: number): AsyncGenerator<GeneratorBatch> {
    for (let first = 0; first < this.#source.length; first += batch) {
      const length = Math.min(batch, this.#source.length - first)
      const part = Array.from({ length }, (_, i) => this.#source.describe(first + i))
      yield this.#batch(part.map(({ id }) => ({ id, caption: 0 })))
    }
  }

  #batch(chosen: readonly { id: string; caption: number }[]): GeneratorBatch {
    const rows = chosen.map(({ id, caption }) => {
      const { captions, image } = this.#tokenized.get(id)!
      return { ...captions[caption]!, image }
    })
    return joinRows(rows)
  }
}

/** The pairs without their pictures, whose tokens are known: nothing has to be read. */
function describedPairs(source: PairSource): PairSource {
  const none = { pixels: new Uint8Array(), width: 0, height: 0 }
  return {
    length: source.length,
    describe: (index) => source.describe(index),
    read: async (index) => {
      const { id, captions } = source.describe(index)
      return { id, captions: [...captions], ...none }
    },
  }
}

/** The caption for a random number from 0 to below 1: 0, the name, for those below `nameShare`, the others share the rest. */
export function chooseCaption(count: number, nameShare: number, random: number): number {
  if (count === 1 || random < nameShare) return 0
  const rest = (random - nameShare) / (1 - nameShare)
  return 1 + Math.min(count - 2, Math.floor(rest * (count - 1)))
}

/** One of each source in turn, until one of them ends. */
export async function* inTurn<T>(...sources: AsyncIterable<T>[]): AsyncGenerator<T> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]())
  for (;;) {
    for (const iterator of iterators) {
      const next = await iterator.next()
      if (next.done === true) return
      yield next.value
    }
  }
}

/** Batches for drawing and for describing in turn, which `accumulate: 2` makes a step of. */
export function drawnAndDescribed(
  drawn: RunBatches<GeneratorBatch>,
  described: RunBatches<GeneratorBatch>,
): RunBatches<GeneratorBatch> {
  const batches = inTurn(directed(drawn, 'text-to-image'), directed(described, 'image-to-text'))
  return {
    [Symbol.asyncIterator]: () => batches,
    ...(drawn.state === undefined
      ? {}
      : { state: () => ({ drawn: drawn.state!(), described: described.state!() }) }),
  }
}

async function* directed(
  batches: AsyncIterable<GeneratorBatch>,
  direction: Direction,
): AsyncGenerator<GeneratorBatch> {
  for await (const batch of batches) yield { ...batch, direction }
}
