import test from 'ava'
import {
  encodeTexts,
  imageTextMatcher,
  type ImageTextMatcherOptions,
  pixelsToTensor,
  readImage,
  similarityRule,
} from '../../../lib/index.ts'
import { picture, tinyBundle } from '../../sampler/bundle.ts'

test('a trained matcher is what the similarity rule asks', async (t) => {
  const model = await tinyBundle(t, { matcher: true })
  const { matcher, imageTokenizer, textTokenizer } = model
  const similarity = imageTextMatcher({ name: 'tiny 1', matcher: matcher!, imageTokenizer, textTokenizer })
  const captions = ['红苹果', '绿叶子', '一只猫'] // of the last, the tokenizer knows one character
  const scores = Array.from(await similarity.score(picture(3), captions))
  const { indices } = await imageTokenizer.encode(pixelsToTensor([picture(3)]))
  const cosines = await matcher!.similarity(indices, encodeTexts(textTokenizer, captions, 10))
  t.deepEqual(
    scores,
    Array.from(cosines, (cosine) => matcher!.score(cosine)),
  )
  // a larger picture is made to fit
  const large = picture(3, 20)
  t.deepEqual(
    Array.from(await similarity.score(large, captions)),
    Array.from(await similarity.score(await readImage(large, { size: 8 }), captions)),
  )
  t.deepEqual(await similarity.score(picture(3), []), [])

  const sorted = [...scores].sort((a, b) => a - b)
  const rule = similarityRule(similarity, (sorted[0]! + sorted[1]!) / 2)
  const kept = await rule.filter({ id: 'a', captions, image: picture(3) })
  t.deepEqual(
    kept,
    captions.filter((_, i) => scores[i] !== sorted[0]),
  )
  t.deepEqual(rule.settings['matcher'], 'tiny 1')
})

test('what it is made of is checked', async (t) => {
  const model = await tinyBundle(t, { matcher: true })
  const { matcher, imageTokenizer, textTokenizer } = model
  const all = { name: 'tiny', matcher: matcher!, imageTokenizer, textTokenizer }
  for (const key of Object.keys(all) as (keyof typeof all)[]) {
    const { [key]: _, ...rest } = all
    t.throws(() => imageTextMatcher(rest as ImageTextMatcherOptions), {
      code: 'ERR_VILG_INVALID_ARGUMENT',
      message: new RegExp(key),
    })
  }
  t.throws(() => imageTextMatcher({ ...all, above: 0.5 } as never), { message: /above/ })
})
