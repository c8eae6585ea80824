import test from 'ava'
import { splitWords, WordPiece } from '../../lib/tokenizer/word-piece.ts'
import { randomFrom, randomText, readCases, readVocabulary } from './helpers.ts'

const vocabulary = readVocabulary()
const bert = new WordPiece(vocabulary)

for (const name of ['cases.json', 'unusual.json'] as const) {
  test(`equal to BERT on every text of ${name}`, (t) => {
    const cases = readCases(name)
    t.true(cases.length >= 15)
    for (const { text, tokens } of cases) t.deepEqual(bert.tokenize(text), tokens, JSON.stringify(text))
  })
}

test('a word has at most 200 code points, not units', (t) => {
  const pieces = new WordPiece(['[UNK]', 'a', '##a', '😀', '##😀'])
  t.is(pieces.tokenize('a'.repeat(200)).length, 200)
  t.deepEqual(pieces.tokenize('a'.repeat(201)), ['[UNK]'])
  t.is(pieces.tokenize('😀'.repeat(200)).length, 200)
  t.deepEqual(pieces.tokenize('😀'.repeat(201)), ['[UNK]'])
})

test('a word that fails half-way is one [UNK]', (t) => {
  const pieces = new WordPiece(['[UNK]', 'un', '##able', 'ok'])
  t.deepEqual(pieces.tokenize('ok unable unabler ok'), ['ok', 'un', '##able', '[UNK]', 'ok'])
})

test('the longest piece wins, even if the rest then fails', (t) => {
  t.deepEqual(new WordPiece(['abc', 'ab', '##cd']).tokenize('abcd'), ['[UNK]'])
})

test('without lower-casing, case and accents stay', (t) => {
  t.deepEqual(splitWords('Café ÀB中', false), ['Café', 'ÀB', '中'])
  t.deepEqual(splitWords('Café ÀB中'), ['cafe', 'ab', '中'])
})

test('ideographs beyond the BMP stand alone, those younger than BERT do not', (t) => {
  t.deepEqual(splitWords('a𠀀b𬺠c'), ['a', '𠀀', 'b', '𬺠', 'c'])
  t.deepEqual(splitWords('a𰀀b'), ['a𰀀b'])
})

test('lone surrogates are unknown characters, and never fuse', (t) => {
  const emoji = new WordPiece(['😀', '[UNK]'])
  t.deepEqual(emoji.tokenize('😀'), ['😀'])
  t.deepEqual(emoji.tokenize('\ud83d\0\ude00'), ['[UNK]'])
  t.deepEqual(emoji.tokenize('\ud83d 😀 \ude00'), ['[UNK]', '😀', '[UNK]'])
})

test('100 KB of anything takes time linear in its length', (t) => {
  const texts = {
    word: 'a'.repeat(1e5),
    words: 'unaffable '.repeat(1e4),
    longestWords: `${'q'.repeat(199)} `.repeat(500),
    ideographs: '中'.repeat(1e5),
    punctuation: '!'.repeat(1e5),
    spaces: ' '.repeat(1e5),
    zeros: '\0'.repeat(1e5),
    emoji: '😀'.repeat(5e4),
    loneSurrogates: '\ud83d'.repeat(1e5),
    // Unsorted marks are what sorting by insertion is slowest on: 5 s and more before such runs were broken up.
    marks: `a${'\u0301'.repeat(5e4)}${'\u0316'.repeat(5e4)}`,
    spacingMarks: `a${'\u302e\u{16ff0}'.repeat(3e4)}`,
  }
  for (const [name, text] of Object.entries(texts)) {
    const start = performance.now()
    const tokens = bert.tokenize(text)
    const elapsed = performance.now() - start
    t.true(elapsed < 2000, `${name}: ${elapsed} ms`) // 120 ms at most was seen
    t.true(tokens.length <= text.length)
  }
  t.deepEqual(bert.tokenize(texts.marks), ['a'])
  t.deepEqual(bert.tokenize(texts.word), ['[UNK]'])
})

test('random text never throws and gives tokens of the vocabulary', (t) => {
  const known = new Set(vocabulary)
  const random = randomFrom(1)
  for (let round = 0; round < 500; round++) {
    const text = randomText(random, 1 + Math.floor(random() * 200))
    for (const token of bert.tokenize(text)) {
      if (!known.has(token)) t.fail(`${token} from ${JSON.stringify(text)}`)
    }
  }
  t.pass()
})
