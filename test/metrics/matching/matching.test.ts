import test from 'ava'
import {
  clipScore,
  cosine,
  cosineScorer,
  type ImageTextScorer,
  rPrecision,
  rPrecisionHard,
  wordSwaps,
} from '../../../lib/metrics/index.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }

/** Pictures that are their own number, with captions that end in it. */
const pictures = Array.from({ length: 120 }, (_, i) => ({ image: i, caption: `picture ${i}` }))
/** 1 for the picture's own caption where `knows` it, for the caption of picture 0 otherwise. */
const scorer =
  (knows: (image: number) => boolean): ImageTextScorer<number> =>
  (image, captions) =>
    captions.map((caption) => Number(knows(image) === caption.endsWith(` ${image}`)))

test('CLIPScore: 250 times the cosine, and nothing below zero', (t) => {
  const { mean, items } = clipScore(
    [new Float32Array([3, 4]), [1, 0], [1, 0]],
    [
      [6, 8],
      [1, 1],
      [-1, 0.5],
    ],
  )
  t.true(Math.abs(items[0]! - 250) < 1e-12)
  t.true(Math.abs(items[1]! - 250 * Math.SQRT1_2) < 1e-12)
  t.is(items[2], 0)
  t.true(Math.abs(mean - (items[0]! + items[1]!) / 3) < 1e-12)
  t.true(Math.abs(cosine([1, 0], [-1, 1]) + Math.SQRT1_2) < 1e-15)
  t.is(cosine([1e-3, 2e-3, 3e-3], [1e-3, 2e-3, 3e-3]), 1)
})

test('CLIPScore refuses vectors without direction and of different lengths', (t) => {
  t.throws(() => clipScore([], []), { ...invalid, message: /images/ })
  t.throws(() => clipScore([[1]], []), { code: 'ERR_VILG_SHAPE_MISMATCH', message: /texts/ })
  t.throws(() => clipScore([[1, 2]], [[1]]), { code: 'ERR_VILG_SHAPE_MISMATCH', message: /texts\[0\]/ })
  t.throws(() => clipScore([[0, 0]], [[1, 1]]), { ...invalid, message: /images\[0\].*sum to 0/ })
  t.throws(() => clipScore([[1, NaN]], [[1, 1]]), { ...invalid, message: /NaN/ })
  t.throws(() => clipScore([1 as never], [[1, 1]]), { ...invalid, message: /images\[0\]/ })
})

test('R-precision: 99 captions of others, groups, and the share of those whose own is best', async (t) => {
  const seen: number[] = []
  const fractions: number[] = []
  const all = await rPrecision(
    pictures,
    (image, captions, options) => {
      t.is(new Set(captions).size, 100)
      t.is(captions[0], `picture ${image}`)
      seen.push(...captions.slice(1).map((caption) => Number(caption.split(' ')[1])))
      return scorer(() => true)(image, captions, options)
    },
    { onProgress: ({ fraction }) => fractions.push(fraction) },
  )
  t.deepEqual(all, { count: 120, mean: 1, standardDeviation: 0, groups: Array(10).fill(1) as number[] })
  t.is(new Set(seen).size, 120)
  t.is(fractions.length, 120)
  t.is(fractions.at(-1), 1)

  const third = await rPrecision(
    pictures,
    scorer((image) => image % 3 === 0),
    { groups: 4 },
  )
  t.is(third.groups.length, 4)
  t.true(Math.abs(third.mean - 1 / 3) < 1e-12)
  t.true(third.standardDeviation > 0)
  t.deepEqual(
    third,
    await rPrecision(
      pictures,
      scorer((image) => image % 3 === 0),
      { groups: 4 },
    ),
  )
  const other = await rPrecision(
    pictures,
    scorer((image) => image % 3 === 0),
    { groups: 4, seed: 2 },
  )
  t.notDeepEqual(other.groups, third.groups)
})

test('R-precision: a scorer that tells nothing apart gets nothing; twins of a caption are no wrong ones', async (t) => {
  t.is((await rPrecision(pictures, (_, captions) => captions.map(() => 1))).mean, 0)
  const twins = [...pictures, { image: 5, caption: 'picture 5' }]
  t.is(
    (
      await rPrecision(
        twins,
        scorer(() => true),
      )
    ).mean,
    1,
  )
})

test('words are swapped within their category', (t) => {
  t.deepEqual(wordSwaps('A Red apple, a reddish one', ['red', 'green', 'blue']), [
    'A green apple, a reddish one',
    'A blue apple, a reddish one',
  ])
  t.deepEqual(wordSwaps('a hot dog', ['hot', 'hot dog', 'cat', 'cat ']), ['a hot', 'a cat'])
  t.deepEqual(wordSwaps('一个红苹果', ['红', '绿']), ['一个绿苹果'])
  t.deepEqual(wordSwaps('c++ code', ['c++', 'c']), ['c code'])
  t.deepEqual(wordSwaps('reddish', ['red', 'green']), [])
  t.throws(() => wordSwaps('a', ['a', '']), invalid)
})

test('hard R-precision: the mean of the categories that captions have words of', async (t) => {
  const drawn = [
    { image: 'red', caption: 'a red cat' },
    { image: 'green', caption: 'a green dog' },
    { image: 'none', caption: 'two cars' },
  ]
  const asked: string[][] = []
  const knowsColors: ImageTextScorer<string> = (image, captions) => {
    asked.push([...captions])
    return captions.map((caption) => (caption.includes(image) ? 1 : 0))
  }
  const found = await rPrecisionHard(drawn, knowsColors, {
    categories: { color: ['red', 'green', 'blue'], noun: ['cat', 'dog'], verb: ['runs', 'sits'] },
  })
  t.deepEqual(asked[0], ['a red cat', 'a green cat', 'a blue cat'])
  t.is(asked.length, 4)
  t.is(found.categories['color']!.mean, 1)
  t.is(found.categories['color']!.count, 2)
  t.is(found.categories['noun']!.mean, 0)
  t.is(found.categories['verb'], undefined)
  t.is(found.mean, 0.5)
  const one = await rPrecisionHard(drawn, knowsColors, {
    categories: { color: ['red', 'green', 'blue'] },
    negatives: 1,
  })
  t.is(one.mean, 1)
  t.is(asked.at(-1)!.length, 2)
})

test('a scorer by cosines embeds each caption once', async (t) => {
  const embedded: string[] = []
  const score = cosineScorer<number>({
    embedImage: (image) => [1, image],
    embedTexts: async (captions) => {
      embedded.push(...captions)
      return captions.map((caption) => [1, Number(caption.split(' ')[1])])
    },
  })
  t.is((await rPrecision(pictures, score, { negatives: 20 })).mean, 1)
  t.is(embedded.length, 120)
  const short = cosineScorer<number>({ embedImage: () => [1], embedTexts: () => [] })
  await t.throwsAsync(rPrecision(pictures, short), { ...invalid, message: /embedTexts/ })
  t.throws(() => cosineScorer({ embedImage: 1 } as never), { ...invalid, message: /embedImage/ })
})

test('R-precision refuses bad input', async (t) => {
  const score = scorer(() => true)
  const refused: [Promise<unknown>, RegExp][] = [
    [rPrecision([], score), /pictures/],
    [rPrecision(pictures.slice(0, 50), score), /more than 99 different captions.*50 different/],
    [rPrecision(pictures, 3 as never), /score/],
    [rPrecision(pictures, () => [1]), /the scores/],
    [rPrecision(pictures, (_, captions) => captions.map(() => NaN)), /the scores/],
    [rPrecision(pictures, score, { groups: 0 }), /groups/],
    [rPrecision(pictures, score, { group: 3 } as object), /group/],
    [rPrecisionHard(pictures, score, {} as never), /categories/],
    [rPrecisionHard(pictures, score, { categories: { a: ['x'] } }), /categories\.a/],
    [rPrecisionHard(pictures, score, { categories: { a: ['x', 'y'] } }), /categories/],
  ]
  for (const [promise, message] of refused) await t.throwsAsync(promise, { ...invalid, message })
  const controller = new AbortController()
  controller.abort(new Error('enough'))
  await t.throwsAsync(rPrecision(pictures, score, { signal: controller.signal }), { message: 'enough' })
})
