import test, { type ExecutionContext } from 'ava'
import {
  bleu,
  cider,
  ciderD,
  documentFrequencies,
  evaluateCaptions,
  meteor,
  rougeL,
  type TokenizedCaption,
} from '../../../lib/metrics/index.ts'
import { captionFixture } from '../fixtures.ts'

function near(t: ExecutionContext, actual: number, expected: number, tolerance = 1e-12): void {
  t.true(Math.abs(actual - expected) <= tolerance, `${actual} is not ${expected}`)
}

function caption(candidate: string, ...references: string[]): TokenizedCaption {
  return { candidate: candidate.split(' '), references: references.map((text) => text.split(' ')) }
}

for (const name of ['en', 'zh-characters'] as const) {
  test(`${name}: pycocoevalcap's BLEU, ROUGE-L and CIDEr-D, NLTK's METEOR`, async (t) => {
    const { corpus, items } = captionFixture(name)
    t.true(items.length > 20)
    const found = await evaluateCaptions(items, { tokens: 'spaces' })
    t.is(found.count, items.length)
    corpus.bleu.forEach((expected, n) => near(t, found.corpus.bleu![n]!, expected))
    near(t, found.corpus.rougeL!, corpus.rougeL)
    near(t, found.corpus.ciderD!, corpus.cider)
    items.forEach((item, i) => {
      item.bleu.forEach((expected, n) => near(t, found.items.bleu![i]![n]!, expected))
      near(t, found.items.rougeL![i]!, item.rougeL)
      near(t, found.items.ciderD![i]!, item.cider)
      near(t, found.items.meteor![i]!, item.meteorExactStem)
    })
  })
}

test('BLEU by hand: clipped counts, the closest reference, the shorter of two as close', (t) => {
  // the, the, cat: "the" counts once; no bigram "the the", one "the cat"
  const { corpus, items } = bleu([caption('the the cat', 'the cat', 'a cat sat here'), caption('a', 'a b c')])
  near(t, items[0]![0], 2 / 3, 1e-8)
  near(t, items[0]![1], Math.sqrt((2 / 3) * (1 / 2)), 1e-8)
  t.true(items[0]![2] < 1e-4)
  near(t, items[1]![0], Math.exp(1 - 3), 1e-8)
  // 3 of 4 unigrams, 4 tokens against 2 + 3
  near(t, corpus[0], (3 / 4) * Math.exp(1 - 5 / 4), 1e-8)
})

test('ROUGE-L by hand: precision and recall may come from two references', (t) => {
  // common: "a c" of 3 and 4 tokens (P 2/3, R 1/2), "a" of 1 (P 1/3, R 1)
  const [score] = rougeL([caption('a b c', 'a x c y', 'a')]).items
  const [p, r] = [2 / 3, 1]
  near(t, score!, (2.44 * p * r) / (r + 1.44 * p))
  t.is(rougeL([caption('a b', 'c d')]).corpus, 0)
  t.is(rougeL([{ candidate: [], references: [[]] }]).corpus, 0)
})

test('CIDEr by hand: cosines of tf-idf, without clipping and penalty', (t) => {
  const captions = [caption('a a a', 'a b'), caption('c', 'd')]
  // of 2 pictures each n-gram is in one: every weight is its count times log 2
  // unigrams: (3) . (1, 1) / (3 sqrt 2); bigrams: "a a" twice and "a b" have nothing in common
  near(t, cider(captions).items[0]!, (10 / 4) * Math.SQRT1_2)
  // clipped: min(3, 1) * 1 / (3 sqrt 2); 2 bigrams against 1
  near(t, ciderD(captions).items[0]!, (10 / 4) * (Math.SQRT1_2 / 3) * Math.exp(-1 / 72))
  t.is(cider(captions).items[1], 0)
})

test('CIDEr with the frequencies of a corpus; of a single picture every weight is 0', (t) => {
  const captions = [caption('a b', 'a b')]
  t.is(ciderD(captions).corpus, 0)
  const corpus = [[['a', 'x'], ['a']], [['a']], [['y']], [['b']]]
  const frequencies = documentFrequencies(corpus)
  t.is(frequencies.documents, 4)
  // "a" twice in the first picture counts once
  t.is(frequencies.counts[0]!.get('a'), 2)
  t.deepEqual([...frequencies.counts[1]!.values()], [1])
  // unigrams and bigrams are the same, longer ones there are none: 2 of 4 orders
  near(t, ciderD(captions, frequencies).corpus, 5)
  // weights: a log 2, b log 4 against b log 4, c log 4
  const [score] = cider([caption('a b', 'b c')], frequencies).items
  near(t, score!, (10 / 4) * (2 / Math.sqrt(1 + 4) / Math.sqrt(4 + 4)) * 2)
})

test('METEOR by hand: stems, chunks, synonyms where they are given', (t) => {
  // all 3 match, "cats" by its stem, in 2 chunks: P = R = 1
  near(t, meteor([caption('b cats a', 'cat a b')]).corpus, 1 - 0.5 * (2 / 3) ** 3)
  const pair = caption('a big car', 'a large car')
  near(t, meteor([pair]).corpus, (2 / 3) * (1 - 0.5))
  const synonyms = (word: string) => (word === 'big' ? ['large'] : [])
  near(t, meteor([pair], { synonyms }).corpus, 1 - 0.5 / 27)
  t.is(meteor([caption('a', 'b')], { synonyms: () => [] }).corpus, 0)
  // the best reference
  near(t, meteor([caption('a b', 'c', 'A B')]).corpus, 1 - 0.5 / 8)
})

test('bad input is refused by name', async (t) => {
  const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
  t.throws(() => bleu([]), { ...invalid, message: /captions/ })
  t.throws(() => rougeL([{ candidate: ['a'], references: [] }]), {
    ...invalid,
    message: /captions\[0\]\.references/,
  })
  t.throws(() => meteor([{ candidate: 'a' as never, references: [['a']] }]), {
    ...invalid,
    message: /candidate/,
  })
  t.throws(() => meteor([caption('a', 'a')], { synonym: 1 } as object), invalid)
  t.throws(() => ciderD([caption('a', 'a')], { documents: 0, counts: [] }), {
    ...invalid,
    message: /frequencies/,
  })
  t.throws(() => documentFrequencies([[]]), invalid)
  const item = { candidate: 'a', references: ['a'] }
  const refused: [Parameters<typeof evaluateCaptions>, RegExp][] = [
    [[[]], /items/],
    [[[{ candidate: 'a', references: [] }]], /items\[0\]\.references/],
    [[[item, { candidate: 3 as never, references: ['a'] }]], /items\[1\]\.candidate/],
    [[[item], { tokens: 'letters' as never }], /tokens/],
    [[[item], { tokens: (() => 'a') as never }], /what tokens returns/],
    [[[item], { metrics: [] }], /metrics/],
    [[[item], { metrics: ['blue' as never] }], /metrics\[0\]/],
    [[[item], { corpus: [[]] }], /corpus/],
    [[[item], { token: 'words' } as object], /token/],
  ]
  for (const [args, message] of refused) {
    await t.throwsAsync(evaluateCaptions(...args), { ...invalid, message })
  }
})

test('only what is asked for; SPICE is named as absent; progress and abort', async (t) => {
  const item = { candidate: 'A cat', references: ['a cat.'] }
  const fractions: number[] = []
  const found = await evaluateCaptions([item], {
    metrics: ['rougeL', 'meteor', 'rougeL'],
    onProgress: ({ fraction }) => fractions.push(fraction),
  })
  t.deepEqual(Object.keys(found.corpus), ['rougeL', 'meteor'])
  t.deepEqual(found.items.rougeL, [1])
  t.deepEqual(fractions, [0.5, 1])
  await t.throwsAsync(evaluateCaptions([item], { metrics: ['spice' as never] }), {
    code: 'ERR_VILG_UNSUPPORTED',
    message: /scene graphs/,
  })
  const controller = new AbortController()
  const ended = evaluateCaptions([item], {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  })
  await t.throwsAsync(ended, { message: 'enough' })
})
