import test from 'ava'
import {
  chooseCaption,
  imageBatches,
  imageBatchesInOrder,
  PairBatches,
} from '../../lib/trainer/bundle/batches.ts'
import { memoryPairs } from '../../lib/data/pairs.ts'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'

const items = Array.from({ length: 7 }, (_, i) => {
  const captions = ['abcdefg'[i]!, 'x', 'y']
  const pixels = Uint8Array.from({ length: 2 * 2 * 3 }, (_, at) => i * 12 + at)
  return { id: String(i), captions, pixels, width: 2, height: 2 }
})
const source = memoryPairs(items)

async function take<T>(count: number, values: AsyncIterable<T>): Promise<T[]> {
  const taken: T[] = []
  for await (const value of values) if (taken.push(value) === count) break
  return taken
}

test('the name comes as often as it should, the other captions alike', (t) => {
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 1000; i++) counts[chooseCaption(4, 0.4, (i + 0.5) / 1000)]! += 1
  t.deepEqual(counts, [400, 200, 200, 200])
  t.is(chooseCaption(1, 0.4, 0.9), 0)
  t.is(chooseCaption(2, 0.4, 1 - 2 ** -32), 1)
  t.is(chooseCaption(2, 1, 1 - 2 ** -32), 0)
})

test('batches of pictures depend on their number alone', async (t) => {
  const whole = await take(6, imageBatches(source, { batch: 3, seed: 1, start: 0 }))
  const rest = await take(3, imageBatches(source, { batch: 3, seed: 1, start: 3 }))
  t.deepEqual(rest, whole.slice(3))
  t.notDeepEqual(await take(6, imageBatches(source, { batch: 3, seed: 2, start: 0 })), whole)
  // 18 pictures are two epochs and four more; each is as it is or mirrored
  const seen = new Map<number, number>()
  let mirrored = 0
  for (const { images } of whole) {
    for (let n = 0; n < 3; n++) {
      const first = Math.round((images[n * 12]! + 1) * 127.5)
      const item = Math.floor(first / 12)
      seen.set(item, (seen.get(item) ?? 0) + 1)
      if (first % 12 !== 0) {
        t.is(first % 12, 3) // the pixel to the right
        mirrored++
      }
    }
  }
  t.deepEqual(
    [...seen.values()].reduce((a, b) => a + b),
    18,
  )
  t.true([...seen.values()].every((count) => count === 2 || count === 3) && seen.size === 7)
  t.true(mirrored > 3 && mirrored < 15)
  const ordered = await take(9, imageBatchesInOrder(source, 3))
  t.deepEqual(
    ordered.map(({ images }) => images.length / 12),
    [3, 3, 1],
  )
})

test('batches of pairs depend on their number alone', async (t) => {
  const tokenizer = TextTokenizer.fromVocabulary(['[PAD]', '[UNK]', '[CLS]', '[SEP]', ...'abcdefgxy'])
  const tokens = new Map(items.map(({ id }, i) => [id, Int32Array.from([i, i, i, i])]))
  const pairs = new PairBatches(source, tokens, tokenizer, 5)
  const options = { batch: 2, seed: 3, nameShare: 0.5 }
  const whole = await take(10, pairs.shuffled({ ...options, start: 0 }))
  t.deepEqual(await take(6, pairs.shuffled({ ...options, start: 4 })), whole.slice(4))
  let names = 0
  for (const { text, textValid, image } of whole) {
    t.deepEqual([...textValid], [1, 1, 1, 0, 0, 1, 1, 1, 0, 0])
    for (const row of [0, 1]) {
      const picture = image[row * 4]!
      const [cls, word, sep, ...pads] = text.subarray(row * 5, row * 5 + 5)
      t.deepEqual([cls, sep, ...pads], [2, 3, 0, 0])
      t.true([4 + picture, 11, 12].includes(word!))
      names += Number(word === 4 + picture)
    }
  }
  t.true(names > 4 && names < 16)
  const ordered = await take(9, pairs.inOrder(3))
  t.deepEqual(
    ordered.map(({ image }) => [...image].filter((_, i) => i % 4 === 0)),
    [[0, 1, 2], [3, 4, 5], [6]],
  )
})
