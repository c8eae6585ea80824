import { readFileSync } from 'node:fs'
import test from 'ava'
import { porterStem } from '../../../lib/metrics/captions/porter-stemmer.ts'
import { characterTokens, evaluateCaptions, wordTokens } from '../../../lib/metrics/index.ts'

test('words as the Penn Treebank has them, without punctuation', (t) => {
  const cases: [string, string][] = [
    ['A man, standing; in front (of) a "city"...', 'a man standing in front of a city'],
    ["The cat's toys don't fit; it’s what they'll say", "the cat 's toys do n't fit it 's what they 'll say"],
    [
      "I can't and cannot see the dogs' 5 o'clock t-shirt",
      "i ca n't and can not see the dogs 5 o'clock t-shirt",
    ],
    [
      '1,000.5 pieces at 50% -- $3.50 each - in the U.S. 3D',
      '1,000.5 pieces at 50 % $ 3.50 each in the u.s. 3d',
    ],
    ['Ein Äpfel  café\tnaïve', 'ein äpfel café naïve'],
    [' .,!?-- ', ''],
  ]
  for (const [text, words] of cases) t.is(wordTokens(text).join(' '), words)
})

test('characters without white space, not halves of them', (t) => {
  t.deepEqual(characterTokens('红 苹果\n𠮷A '), ['红', '苹', '果', '𠮷', 'a'])
})

// porter-stems.json: PorterStemmer().stem of NLTK 3.10
test("stems are NLTK's", (t) => {
  const stems = JSON.parse(readFileSync('test/fixtures/metrics/porter-stems.json', 'utf8')) as object
  t.true(Object.keys(stems).length > 100)
  t.deepEqual(Object.fromEntries(Object.keys(stems).map((word) => [word, porterStem(word)])), stems)
  t.is(porterStem('FLIES'), 'fli')
})

test('captions are tokenised in the way that is asked for', async (t) => {
  const items = [{ candidate: '红苹果', references: ['红 苹 果'] }]
  const score = async (options: object) =>
    (await evaluateCaptions(items, { ...options, metrics: ['bleu'] })).corpus.bleu![0]
  t.true((await score({ tokens: 'characters' })) > 0.99)
  t.true((await score({ tokens: 'spaces' })) < 1e-6)
  t.true((await score({ tokens: () => ['one', 'token'] })) > 0.99)
})
