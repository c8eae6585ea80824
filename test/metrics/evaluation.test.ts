import test from 'ava'
import { type ImageTextPair, Sampler } from '../../lib/index.ts'
import { evaluatePairs, evaluationTable } from '../../lib/metrics/evaluation.ts'
import { nearestOf, squaredError } from '../../lib/metrics/pixel-distance.ts'
import { refuses } from '../model/helpers.ts'
import { characters, picture, tinyBundle } from '../sampler/bundle.ts'

function pair(i: number, image = picture(i)): ImageTextPair {
  const name = `${characters[i]}${characters[i + 1]}`
  return { id: String(i), captions: [name, `大${name}`], ...image }
}

test('squared errors: all bytes count; beyond the limit, they are above it', (t) => {
  const black = { pixels: new Uint8Array(20 * 20 * 3), width: 20, height: 20 }
  const other = { ...black, pixels: black.pixels.map((_, i) => (i === 0 ? 3 : i === 1199 ? 4 : 0)) }
  t.is(squaredError(black, other), 25)
  t.is(squaredError(other, black, 25), 25)
  t.true(squaredError(black, { ...black, pixels: black.pixels.map(() => 9) }, 100) > 100)
  t.throws(() => squaredError(black, picture(1)), { code: 'ERR_VILG_SHAPE_MISMATCH' })
})

test('the best of several candidates: the first, the likeliest, the matcher’s', async (t) => {
  const model = await tinyBundle(t, { matcher: true })
  const sampler = new Sampler(model)
  const names = [0, 1, 2].map((i) => pair(i).captions[0]!)
  const settings = { count: 4, seed: 5 }
  for (const reranker of ['likelihood', 'matcher'] as const) {
    // pictures that one of the ways chooses: it is right by construction
    const own = await Promise.all(
      names.map(async (name, i) => {
        const [image] = await sampler.textToImage(name, { ...settings, best: 1, reranker })
        return { ...pair(i), pixels: image!.pixels }
      }),
    )
    const { bestOf } = await evaluatePairs(model, own, { seed: 5, candidates: 4, beams: 1 })
    t.is(bestOf!.candidates, 4)
    t.is(bestOf![reranker]!.share, 1)
    const firsts = await Promise.all(names.map((name) => sampler.textToImage(name, settings)))
    const right = firsts.filter(([first], i) => squaredError(first!, own[i]!) <= nearestOf(first!, own).error)
    t.is(bestOf!.first.correct, right.length)
    t.true(
      evaluationTable({ own: await evaluatePairs(model, own, { seed: 5, candidates: 2 }) }).includes(
        'matcher',
      ),
    )
  }
  const without = await evaluatePairs(await tinyBundle(t), [pair(0)], { candidates: 2 })
  t.is(without.bestOf!.matcher, undefined)
  t.false(evaluationTable({ without }).includes('matcher'))
  await refuses(
    t,
    evaluatePairs(model, [pair(0)], { candidates: 1 }),
    'ERR_VILG_INVALID_ARGUMENT',
    'candidates',
  )
})

test('the nearest picture, the first of those that are as near', (t) => {
  const gallery = [1, 2, 3, 3].map((number) => pair(number))
  const image = { ...picture(3), pixels: picture(3).pixels.map((byte, i) => (i === 5 ? byte ^ 1 : byte)) }
  t.is(nearestOf(image, gallery).pair, gallery[2]!)
  t.is(nearestOf(image, gallery).error, 1)
})

test('what the model draws and says by itself is counted as right, and else it is not', async (t) => {
  const model = await tinyBundle(t)
  const sampler = new Sampler(model)
  const options = { seed: 5, temperature: 0.2, beams: 3, count: 5 }
  // pictures that are what the model draws for their names: drawing is right by construction
  const own = await Promise.all(
    [0, 1, 2, 3, 4].map(async (i) => {
      const blank = pair(i)
      const [image] = await sampler.textToImage(blank.captions[0]!, { seed: 5, temperature: 0.2 })
      const { pixels } = image!
      return { ...blank, pixels }
    }),
  )
  const drawn = await evaluatePairs(model, own, options)
  t.deepEqual(drawn.drawnFromNames, { count: 5, correct: 5, share: 1 })
  t.deepEqual(drawn.mistakes.drawn, [])
  // with the pictures of others, it is wrong (where they are others)
  const rotated = own.map((one, i) => ({ ...one, pixels: own[(i + 1) % 5]!.pixels }))
  const different = rotated.filter((one, i) => !Buffer.from(one.pixels).equals(own[i]!.pixels)).length
  const mixed = await evaluatePairs(model, rotated, options)
  t.is(mixed.drawnFromNames.correct, 5 - different)
  t.is(mixed.mistakes.drawn.length, different)

  // names that are what the model says: describing is right by construction
  const said = await Promise.all(
    own.map(async (one) => {
      const [best] = await sampler.imageToText(one, { beams: 3 })
      return { ...one, captions: [best!.text, '红'] }
    }),
  )
  const described = await evaluatePairs(model, said, options)
  t.is(described.describedByName.correct, 5)
  t.is(described.describedByCaption.correct, 5)
  const asCaption = said.map((one) => ({ ...one, captions: ['猫猫猫猫猫', ...one.captions] }))
  const second = await evaluatePairs(model, asCaption, options)
  t.is(second.describedByName.correct, 0)
  t.is(second.describedByCaption.correct, 5)
})

test('a twin is as good as the picture itself, and its name as good as the own', async (t) => {
  const model = await tinyBundle(t)
  const sampler = new Sampler(model)
  const one = pair(1)
  const [drawn] = await sampler.textToImage(one.captions[0]!, { seed: 1, temperature: 0.2 })
  const { pixels } = drawn!
  const [best] = await sampler.imageToText({ ...one, pixels }, { beams: 4 })
  const first = { ...one, pixels, captions: [one.captions[0]!] }
  const twin = { ...pair(2), pixels: pixels.slice(), captions: [best!.text] }
  const options = { count: 2, seed: 1 }
  const alone = await evaluatePairs(model, [first], { ...options, gallery: [first, pair(3)] })
  const both = await evaluatePairs(model, [first], { ...options, gallery: [twin, first, pair(3)] })
  t.is(alone.drawnFromNames.correct, 1)
  t.is(both.drawnFromNames.correct, 1)
  t.is(both.describedByName.correct, 1)
  t.is(alone.describedByName.correct, Number(best!.text === first.captions[0]))
})

test('progress rises to 1; an abort ends it; a table has a column for each set', async (t) => {
  const model = await tinyBundle(t)
  const pairs = [0, 1, 2].map((i) => pair(i))
  const fractions: number[] = []
  const result = await evaluatePairs(model, pairs, { onProgress: ({ fraction }) => fractions.push(fraction) })
  t.is(result.pairs, 3)
  t.is(fractions.at(-1), 1)
  t.true(fractions.every((fraction, i) => fraction > (fractions[i - 1] ?? 0)))
  t.regex(evaluationTable({ train: result, other: result }), /^ +train +other\n/)
  const controller = new AbortController()
  const ended = evaluatePairs(model, pairs, {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  })
  await t.throwsAsync(ended, { message: 'enough' })
})

test('bad input is refused', async (t) => {
  const model = await tinyBundle(t)
  await refuses(t, evaluatePairs(model, []), 'ERR_VILG_INVALID_ARGUMENT', 'pairs')
  await refuses(t, evaluatePairs(model, [pair(1)], { count: NaN }), 'ERR_VILG_INVALID_ARGUMENT', 'count')
  await refuses(
    t,
    evaluatePairs(model, [pair(1)], { many: 3 } as object),
    'ERR_VILG_INVALID_ARGUMENT',
    'many',
  )
  const large = pair(1, picture(1, 9))
  await t.throwsAsync(evaluatePairs(model, [large]), { code: 'ERR_VILG_SHAPE_MISMATCH' })
})
