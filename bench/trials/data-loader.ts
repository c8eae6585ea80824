import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import sharp from 'sharp'
import { pack } from 'tar-stream'
import {
  Generator,
  ImageTokenizer,
  openSource,
  readImage,
  type SampleSource,
  streamCodes,
  streamPairs,
  TextTokenizer,
  tokenizeSource,
  Trainer,
} from '../../lib/index.ts'
import type { RunBatches } from '../../lib/trainer/run.ts'
import { changeBundleConfig, defaultBundleConfig } from '../../lib/trainer/bundle/config.ts'
import { streamImageBatches, streamTokenBatches } from '../../lib/trainer/bundle/stream-batches.ts'
import { Random } from '../data.ts'
import type { Case, Trial } from '../trial.ts'

const pictures = 256
const pictureSize = 256
const batch = 16
const size = 64
const characters = [...'红苹果绿叶子大小猫狗房树天空']
const share = 0.1

/** A caption of the picture of this number, which tells it from others: its digits in base 16 as characters. */
function captionOf(number: number): string {
  return (
    characters[number % 14]! +
    characters[Math.floor(number / 14) % 14]! +
    characters[Math.floor(number / 196)]!
  )
}

/** A tar shard of JPEG pictures with soft shapes, as photographs have them, of about 20 kB each. */
async function writeShard(path: string): Promise<void> {
  const random = new Random(1)
  const tar = pack()
  const written = pipeline(tar, createWriteStream(path))
  for (let i = 0; i < pictures; i++) {
    const raw = { width: 32, height: 32, channels: 3 } as const
    const pixels = Uint8Array.from({ length: 32 * 32 * 3 }, () => random.integer(256))
    const jpeg = await sharp(pixels, { raw })
      .resize(pictureSize, pictureSize)
      .jpeg({ quality: 90 })
      .toBuffer()
    tar.entry({ name: `${i}.jpg` }, jpeg)
    tar.entry({ name: `${i}.txt` }, captionOf(i))
  }
  tar.finalize()
  await written
}

/** Gives the next batch, and the milliseconds that all threads of the process computed for it. */
function measured<Batch>(batches: RunBatches<Batch>) {
  const iterator = batches[Symbol.asyncIterator]()
  return {
    async next(): Promise<{ value: Batch; milliseconds: number }> {
      const before = process.cpuUsage()
      const { value } = (await iterator.next()) as { value: Batch }
      const { user, system } = process.cpuUsage(before)
      return { value, milliseconds: (user + system) / 1000 }
    },
    close: () => iterator.return?.(),
  }
}

const trial: Trial = {
  description: `Processor time that all threads spend on the data of a training step of the bundled sizes, ${batch} pairs, against how long the step takes.`,
  async setup({ folder }) {
    const shard = join(folder, 'pictures.tar')
    await writeShard(shard)
    const source = (await openSource(shard)) as SampleSource<'images'>
    const config = changeBundleConfig(defaultBundleConfig(size, 10_000), {})
    const tokenizer = await ImageTokenizer.create(config.imageTokenizer.model, { seed: 1 })
    const tokenizerFolder = join(folder, 'tokenizer')
    await tokenizer.save(tokenizerFolder)
    const codes = join(folder, 'codes')
    await tokenizeSource(tokenizer, source, codes, { tokenizerFolder })
    const text = TextTokenizer.fromVocabulary(['[PAD]', '[UNK]', '[CLS]', '[SEP]', ...characters])
    const model = { ...config.generator.model, textVocab: text.vocabSize }
    const generator = await Generator.create(model, { seed: 1 })

    const codeSource = (await openSource(codes)) as SampleSource<'codes'>
    const tokenBatches = measured(
      streamTokenBatches(streamCodes([{ source: codeSource, weight: 1 }], { seed: 1 }), {
        batch,
        seed: 1,
        nameShare: 1,
        tokenizer: text,
        textLength: model.textLength,
      }),
    )
    const imageBatches = measured(
      streamImageBatches(streamPairs([{ source, weight: 1 }], { seed: 1, size }), { batch, seed: 1 }),
    )
    const generatorTrainer = new Trainer(generator, config.generator.training)
    const tokenizerTrainer = new Trainer(tokenizer, config.imageTokenizer.training)
    /** How long a step takes, on data that is there already. */
    const step = async <Batch>(
      trainer: { fit(data: AsyncIterable<Batch>): AsyncIterable<{ seconds: number }> },
      value: Batch,
    ) => {
      const once = async function* () {
        yield value
      }
      for await (const { seconds } of trainer.fit(once())) return seconds * 1000
      throw new Error('Expected a step, received none')
    }

    const tokenCase: Case = {
      name: 'codes',
      title: `data of a step from code shards, ${batch} pairs, processor time`,
      work: {},
      target: { kind: 'factor', atMost: share },
      async check() {
        const { value } = await tokenBatches.next()
        const expected = new Map<string, Int32Array>()
        for await (const sample of codeSource.read(0, 0)) {
          if ('codes' in sample) expected.set(text.encode(sample.captions[0]!).ids.join(), sample.codes)
        }
        const length = model.grid ** 2
        for (let i = 0; i < batch; i++) {
          const ids = value.text.subarray(i * model.textLength, (i + 1) * model.textLength)
          const row = expected.get(
            ids.filter((_, at) => value.textValid[i * model.textLength + at] === 1).join(),
          )
          if (row === undefined || row.some((code, at) => code !== value.image[i * length + at])) {
            throw new Error(`Expected the codes of its picture in row ${i}`)
          }
        }
      },
      run: async () => [(await tokenBatches.next()).milliseconds],
      peer: {
        name: "the generator's step",
        run: async () => [await step(generatorTrainer, (await tokenBatches.next()).value)],
      },
    }
    const imageCase: Case = {
      name: 'pictures',
      title: `data of a step from JPEGs in a tar shard, ${batch} pictures of ${pictureSize} x ${pictureSize}, processor time`,
      work: {},
      target: { kind: 'factor', atMost: share },
      async check() {
        for await (const sample of source.read(0, 0)) {
          if (!('image' in sample)) throw new Error('Expected a picture')
          const { pixels } = await readImage(sample.image, { size })
          if (new Set(pixels).size < 32) throw new Error('Expected a picture of many colours')
          break
        }
        const { images } = (await imageBatches.next()).value
        if (images.length !== batch * 3 * size * size || images.some((value) => !(Math.abs(value) <= 1))) {
          throw new Error('Expected pictures from -1 to 1')
        }
      },
      run: async () => [(await imageBatches.next()).milliseconds],
      peer: {
        name: "the image tokenizer's step",
        run: async () => [await step(tokenizerTrainer, (await imageBatches.next()).value)],
      },
    }
    return {
      cases: [tokenCase, imageCase],
      async dispose() {
        await tokenBatches.close()
        await imageBatches.close()
        await generatorTrainer.dispose()
        await tokenizerTrainer.dispose()
        await generator.dispose()
        await tokenizer.dispose()
      },
    }
  },
}
export default trial
