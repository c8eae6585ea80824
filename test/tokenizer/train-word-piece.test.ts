import test from 'ava'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'
import { SPECIAL_TOKENS, trainWordPiece } from '../../lib/tokenizer/train-word-piece.ts'
import { splitWords } from '../../lib/tokenizer/word-piece.ts'
import { randomFrom, randomText } from './helpers.ts'

const corpus = [
  '戴眼镜的小熊，在看书',
  '小熊和小猫 😀 playing chess',
  'players played; a player plays',
  'Café ÀLA CARTE — ｱｲ 한국',
  '\ud83d lone',
]

test('special tokens first, then characters by need, then pieces', (t) => {
  const tokens = trainWordPiece(corpus, { size: 200 })
  t.deepEqual(tokens.slice(0, 5), [...SPECIAL_TOKENS])
  t.is(new Set(tokens).size, tokens.length)
  t.true(tokens.includes('play'))
  t.true(tokens.includes('##y') && !tokens.includes('y'))
  t.true(tokens.includes('小') && !tokens.includes('##小'))
  t.true(tokens.indexOf('小') < tokens.indexOf('猫'))
  t.false(tokens.some((token) => /[A-ZÀé]/.test(token.replace(/^\[.*\]$/, ''))))
})

test('every text of the corpus encodes without [UNK], even with characters alone', (t) => {
  const random = randomFrom(3)
  const texts = [...corpus, ...Array.from({ length: 100 }, () => randomText(random, 40))]
  const smallest = t.throws(() => trainWordPiece(texts, { size: 6 }), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  const needed = Number(/at least (\d+) /.exec(smallest!.message)![1])
  t.throws(() => trainWordPiece(texts, { size: needed - 1 }), {
    instanceOf: RangeError,
    message: new RegExp(`^Expected at least ${needed} .* for size, received ${needed - 1}$`),
  })
  for (const size of [needed, needed + 50]) {
    const tokens = trainWordPiece(texts, { size, minFrequency: 1 })
    t.is(tokens.length, size)
    const tokenizer = TextTokenizer.fromVocabulary(tokens)
    for (const text of texts) {
      t.false(tokenizer.encode(text).ids.includes(tokenizer.unkId!), text)
    }
  }
})

test('more pieces make the corpus shorter', (t) => {
  const lengthAt = (size: number) => {
    const tokenizer = TextTokenizer.fromVocabulary(trainWordPiece(corpus, { size, minFrequency: 1 }))
    return corpus.reduce((sum, text) => sum + tokenizer.encode(text).ids.length, 0)
  }
  t.true(lengthAt(74) < lengthAt(70))
  t.true(lengthAt(78) < lengthAt(74))
  t.is(lengthAt(200), lengthAt(78)) // every word is a token by now
})

test('neither the order of the texts nor that of a second run matters', (t) => {
  const options = { size: 150, minFrequency: 1 }
  const tokens = trainWordPiece(corpus, options)
  t.deepEqual(trainWordPiece([...corpus].reverse(), options), tokens)
  t.deepEqual(trainWordPiece(new Set(corpus), options), tokens)
})

test('minFrequency counts merges, not characters', (t) => {
  t.deepEqual(trainWordPiece(['ab ab cd'], { size: 100, minFrequency: 2 }).slice(5), [
    '##b',
    'a',
    '##d',
    'c',
    'ab',
  ])
  t.true(trainWordPiece(['ab ab cd'], { size: 100, minFrequency: 1 }).includes('cd'))
  t.false(trainWordPiece(['ab ab cd'], { size: 100, minFrequency: 3 }).includes('ab'))
})

test('case stays when asked', (t) => {
  t.true(trainWordPiece(['Ab'], { size: 20, lowerCase: false }).includes('A'))
  t.true(trainWordPiece(['Ab'], { size: 20 }).includes('a'))
})

// The same by the definition: count all pairs anew before each merge.
function trainSlowly(texts: string[], size: number, minFrequency: number): string[] {
  const words = texts
    .flatMap((text) => splitWords(text))
    .map((word) => [...word].map((character, index) => (index === 0 ? character : `##${character}`)))
  const characters = new Map<string, number>()
  for (const piece of words.flat()) characters.set(piece, (characters.get(piece) ?? 0) + 1)
  const tokens: string[] = [
    ...SPECIAL_TOKENS,
    ...[...characters.keys()].sort((a, b) => characters.get(b)! - characters.get(a)! || (a < b ? -1 : 1)),
  ]
  while (tokens.length < size) {
    const pairs = new Map<string, { left: string; right: string; count: number }>()
    for (const word of words) {
      for (let i = 1; i < word.length; i++) {
        const [left, right] = [word[i - 1]!, word[i]!]
        const entry = pairs.get(`${left} ${right}`) ?? { left, right, count: 0 }
        entry.count++
        pairs.set(`${left} ${right}`, entry)
      }
    }
    const [best] = [...pairs.values()].sort(
      (a, b) =>
        b.count - a.count ||
        (a.left < b.left ? -1 : a.left > b.left ? 1 : 0) ||
        (a.right < b.right ? -1 : a.right > b.right ? 1 : 0),
    )
    if (best === undefined || best.count < minFrequency) break
    const token = best.left + best.right.slice(2)
    if (!tokens.includes(token)) tokens.push(token)
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        if (word[i] === best.left && word[i + 1] === best.right) word.splice(i, 2, token)
      }
    }
  }
  return tokens
}

test('equal to counting anew before each merge', (t) => {
  const random = randomFrom(4)
  for (let round = 0; round < 60; round++) {
    const letters = 'abcd'.slice(0, 2 + (round % 3))
    const texts = Array.from({ length: 1 + Math.floor(random() * 20) }, () =>
      Array.from({ length: 1 + Math.floor(random() * 30) }, () =>
        random() < 0.15 ? ' ' : letters[Math.floor(random() * letters.length)],
      ).join(''),
    )
    const minFrequency = 1 + (round % 3)
    const size = 13 + Math.floor(random() * 200)
    t.deepEqual(trainWordPiece(texts, { size, minFrequency }), trainSlowly(texts, size, minFrequency))
  }
})

test('words longer than 200 characters are left out', (t) => {
  t.deepEqual(trainWordPiece(['z'.repeat(201), 'a'], { size: 50 }).slice(5), ['a'])
})

test('bad arguments', (t) => {
  const code = 'ERR_VILG_INVALID_ARGUMENT'
  const anything = (value: unknown) => value as never
  for (const size of [NaN, 5, 10.5, Infinity, '100', undefined]) {
    t.throws(() => trainWordPiece(corpus, { size: anything(size) }), { code })
  }
  t.throws(() => trainWordPiece(corpus, anything(undefined)), { code, instanceOf: TypeError })
  t.throws(() => trainWordPiece('a text', { size: 50 }), { code, message: /an iterable of texts for corpus/ })
  t.throws(() => trainWordPiece(anything(null), { size: 50 }), { code })
  t.throws(() => trainWordPiece(['a', anything(3)], { size: 50 }), {
    code,
    message: /corpus\[1\], received 3/,
  })
  t.throws(() => trainWordPiece(corpus, { size: 500, minFrequency: 0 }), { code })
  t.throws(() => trainWordPiece(corpus, { size: 500, vocab: 1 } as never), {
    code,
    message: /unknown key "vocab"/,
  })
})
