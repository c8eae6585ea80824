import test from 'ava'
import {
  encodeTexts,
  likelihoodReranker,
  matcherReranker,
  pixelsToTensor,
  Sampler,
  Trainer,
} from '../../lib/index.ts'
import { refuses } from '../model/helpers.ts'
import { tinyBundle } from './bundle.ts'

const prompt = '红苹果'

test('the best are those that the matcher scores highest, with their scores', async (t) => {
  const model = await tinyBundle(t, { matcher: true })
  const matcher = model.matcher!
  const sampler = new Sampler(model)
  const all = await sampler.textToImage(prompt, { count: 20, seed: 3 }) // more than one pass
  const text = encodeTexts(model.textTokenizer, [prompt], 10)
  const scores: number[] = []
  for (const { tokens } of all) scores.push(matcher.score((await matcher.similarity(tokens, text))[0]!))
  const order = [...all.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b)
  for (const reranker of [undefined, 'matcher'] as const) {
    const best = await sampler.textToImage(prompt, {
      count: 20,
      best: 5,
      seed: 3,
      ...(reranker ? { reranker } : {}),
    })
    t.deepEqual(
      best.map(({ candidate }) => candidate),
      order.slice(0, 5),
    )
    // scores of several together differ in rounding at most
    best.forEach(({ score, candidate }) => t.true(Math.abs(score! - scores[candidate]!) < 1e-5))
    t.true(best[0]!.score! > 0 && best[0]!.score! < 1)
  }
})

test('by name, the likelihood too; without a matcher it is what there is', async (t) => {
  const options = { count: 6, best: 3, seed: 3 }
  const summary = (images: { candidate: number; score: number | undefined }[]) =>
    images.map(({ candidate, score }) => [candidate, score])
  const model = await tinyBundle(t, { matcher: true })
  const sampler = new Sampler(model)
  const expected = summary(
    await sampler.textToImage(prompt, { ...options, reranker: likelihoodReranker(model) }),
  )
  t.deepEqual(summary(await sampler.textToImage(prompt, { ...options, reranker: 'likelihood' })), expected)
  t.notDeepEqual(summary(await sampler.textToImage(prompt, options)), expected)

  const without = new Sampler(await tinyBundle(t))
  t.deepEqual(summary(await without.textToImage(prompt, options)), expected)
  await refuses(
    t,
    without.textToImage(prompt, { ...options, reranker: 'matcher' }),
    'ERR_VILG_UNSUPPORTED',
    "'tiny'",
    'likelihood',
  )
  await refuses(
    t,
    without.textToImage(prompt, { ...options, reranker: 'clip' as never }),
    'ERR_VILG_INVALID_ARGUMENT',
    '"matcher", "likelihood"',
  )

  // a model that only draws can be helped by a matcher, and not by its own likelihood
  const draws = new Sampler(await tinyBundle(t, { matcher: true, trainedFor: ['text-to-image'] }))
  t.is((await draws.textToImage(prompt, options)).length, 3)
  await refuses(t, draws.textToImage(prompt, { ...options, reranker: 'likelihood' }), 'ERR_VILG_UNSUPPORTED')
})

test('a matcher with an image tokenizer of its own looks at pixels', async (t) => {
  const model = await tinyBundle(t, { matcher: true })
  const { matcher, imageTokenizer, textTokenizer } = model
  const images = await new Sampler(model).textToImage(prompt, { count: 4, seed: 3 })
  const reranker = matcherReranker({ matcher: matcher!, imageTokenizer, textTokenizer })
  const scores = Array.from(await reranker.score(prompt, images, {}))
  const { indices } = await imageTokenizer.encode(pixelsToTensor(images), { count: 4 })
  const text = encodeTexts(textTokenizer, [prompt], 10)
  const cosines = await matcher!.similarity(indices, text)
  scores.forEach((score, i) => t.true(Math.abs(score - matcher!.score(cosines[i]!)) < 1e-6))

  t.throws(() => matcherReranker({ matcher: matcher! } as never), { message: /textTokenizer/ })
  t.throws(() => matcherReranker({ textTokenizer } as never), { message: /matcher/ })
  const misspelt = { matcher: matcher!, textTokenizer, tokenizer: imageTokenizer }
  t.throws(() => matcherReranker(misspelt as never), { message: /tokenizer/ })
})

test('a matcher that knows what a prompt looks like finds it', async (t) => {
  const model = await tinyBundle(t, { matcher: true })
  const sampler = new Sampler(model)
  const images = await sampler.textToImage(prompt, { count: 8, seed: 1 })
  const names = ['红', '绿', '蓝', '苹', '果', '叶', '子', '大']
  const batch = {
    ...encodeTexts(model.textTokenizer, names, 10),
    image: Int32Array.from(images.flatMap(({ tokens }) => [...tokens])),
  }
  await using trainer = new Trainer(model.matcher!, { learningRate: 3e-3 })
  async function* data() {
    for (;;) yield batch
  }
  for await (const { imageToTextAccuracy } of trainer.fit(data(), { steps: 200 })) {
    if (imageToTextAccuracy === 1) break
  }
  const reranker = matcherReranker({ matcher: model.matcher!, textTokenizer: model.textTokenizer })
  for (const [i, name] of names.entries()) {
    const scores = Array.from(await reranker.score(name, images, {}))
    t.is(scores.indexOf(Math.max(...scores)), i)
  }
})
