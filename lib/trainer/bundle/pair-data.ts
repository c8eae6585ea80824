import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pixelsToTensor, writeFileWhole } from '../../data/image.ts'
import type { ImageTextPair, PairSource } from '../../data/pairs.ts'
import { VilgError } from '../../errors.ts'
import { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { imageBatches, imageBatchesInOrder, PairBatches, readPairs } from './batches.ts'
import type {
  BatchOptions,
  CaptionOptions,
  DataPart,
  TokenData,
  TokenPlace,
  TrainingData,
} from './training-data.ts'

const encodedAtOnce = 32

/** What a {@link PairData} is made of. */
export interface PairDataOptions {
  train: PairSource
  /** May have no pair: then nothing is evaluated. */
  heldOut: PairSource
  /** What decides the pairs, as JSON. */
  settings: unknown
}

/** Pairs that are at hand in any order; their tokens are in memory, and in one file. */
export class PairData implements TrainingData {
  readonly train: PairSource
  readonly heldOut: PairSource
  readonly settings: unknown

  constructor({ train, heldOut, settings }: PairDataOptions) {
    this.train = train
    this.heldOut = heldOut
    this.settings = settings
  }

  get hasHeldOut(): boolean {
    return this.heldOut.length > 0
  }

  async *captions(part: DataPart): AsyncGenerator<readonly string[]> {
    for (const { captions } of describeAll(part === 'train' ? this.train : this.heldOut)) yield captions
  }

  shown(count: number): Promise<ImageTextPair[]> {
    // from the middles of equal stretches, as the very first ones may be all of a kind
    const spread = (source: PairSource) =>
      Array.from({ length: count }, (_, i) => source.read(Math.floor(((i + 0.5) * source.length) / count)))
    return Promise.all([...spread(this.train), ...(this.hasHeldOut ? spread(this.heldOut) : [])])
  }

  imageBatches(options: BatchOptions) {
    return imageBatches(this.train, options)
  }

  heldOutImages(batch: number) {
    return imageBatchesInOrder(this.heldOut, batch)
  }

  async makeTokens(place: TokenPlace, signal: AbortSignal): Promise<string> {
    const known = await this.#readTokens(place).catch(() => undefined)
    if (known !== undefined) return `those of ${known.size} pictures are there`
    const tokenizer = await ImageTokenizer.load(place.tokenizerFolder, { precision: 'float32' })
    try {
      const { codebookSize } = tokenizer.config
      const used = new Set<number>()
      const pictures = this.train.length + this.heldOut.length
      const key = await this.#key(place)
      const parts = [Buffer.from(`${JSON.stringify({ key, pictures })}\n`)]
      for (const source of [this.train, this.heldOut]) {
        for (let first = 0; first < source.length; first += encodedAtOnce) {
          const part = await readPairs(source, first, encodedAtOnce)
          const { indices } = await tokenizer.encode(pixelsToTensor(part), { count: part.length, signal })
          indices.forEach((index) => used.add(index))
          parts.push(tokenBytes(indices, codebookSize))
        }
      }
      await writeFileWhole(fileOf(place), Buffer.concat(parts))
      return `${pictures} pictures, ${used.size} different tokens`
    } finally {
      await tokenizer.dispose()
    }
  }

  async openTokens(place: TokenPlace, { tokenizer, textLength }: CaptionOptions): Promise<TokenData> {
    const tokens = await this.#readTokens(place)
    const train = new PairBatches(this.train, tokens, tokenizer, textLength)
    const heldOut = new PairBatches(this.heldOut, tokens, tokenizer, textLength)
    return {
      key: await this.#key(place),
      shuffled: (options) => train.shuffled(options),
      heldOut: (batch) => heldOut.inOrder(batch),
    }
  }

  /** The tokens of every picture, by id. @throws as {@link openTokens} does */
  imageTokens(place: TokenPlace): Promise<ReadonlyMap<string, Int32Array>> {
    return this.#readTokens(place)
  }

  /** Changes whenever the tokens have to be made anew. */
  async #key({ tokenizerFolder }: TokenPlace): Promise<string> {
    const weights = await readFile(join(tokenizerFolder, 'weights.safetensors'))
    const ids = this.#all().map(({ id }) => id)
    return createHash('sha256').update(weights).update(ids.join('\n')).digest('hex')
  }

  /** The tokens of all pictures, by id. */
  async #readTokens(place: TokenPlace): Promise<Map<string, Int32Array>> {
    const { length } = place
    const path = fileOf(place)
    const pairs = this.#all()
    const bytes = await readFile(path)
    const end = bytes.indexOf('\n')
    const { key } = JSON.parse(bytes.subarray(0, end).toString()) as { key: string }
    const size = (bytes.length - end - 1) / (pairs.length * length)
    if (key !== (await this.#key(place)) || (size !== 2 && size !== 4)) {
      const text = `Expected the tokens of this image tokenizer and these pictures in ${path}, found others. Do the stage tokens again`
      throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, { path })
    }
    return new Map(
      pairs.map(({ id }, i) => {
        const first = end + 1 + i * length * size
        return [id, Int32Array.from({ length }, (_, p) => bytes.readUIntLE(first + p * size, size))]
      }),
    )
  }

  #all() {
    return [...describeAll(this.train), ...describeAll(this.heldOut)]
  }
}

const fileOf = ({ folder }: TokenPlace) => join(folder, 'tokens.bin')

/** Two bytes a token where that is enough, else four; little-endian. */
function tokenBytes(indices: Int32Array, codebookSize: number): Buffer<ArrayBuffer> {
  const size = codebookSize <= 2 ** 16 ? 2 : 4
  const bytes = Buffer.alloc(indices.length * size)
  indices.forEach((index, i) => bytes.writeUIntLE(index, i * size, size))
  return bytes
}

function describeAll(source: PairSource) {
  return Array.from({ length: source.length }, (_, i) => source.describe(i))
}
