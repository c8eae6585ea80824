import test from 'ava'
import { joinPieces } from '../../lib/tokenizer/join-pieces.ts'
import { WordPiece } from '../../lib/tokenizer/word-piece.ts'
import { randomFrom, randomText, readCases, readVocabulary } from './helpers.ts'

const bert = new WordPiece(readVocabulary())

test('texts come back as they are usually written', (t) => {
  const texts = [
    '戴眼镜的泰迪熊毛绒玩具',
    '日暮苍山远，长河落日圆。',
    '他说：你好！（笑）《书》',
    'a blue train, traveling down the tracks.',
    "don't open the e-mail (now)!",
    'he said "hello" and left',
    'it costs $5,999.50 at 10:30, 50% off',
    'a@b.c',
    '한국어 텍스트',
    'iphone15的價格是￥5,999！',
    '3d打印 and more',
  ]
  const expected = new Map([
    ['a@b.c', 'a@b. c'], // a full stop between letters ends a sentence more often than not
    ['3d打印 and more', '3d打印and more'],
  ])
  for (const text of texts) t.is(joinPieces(bert.tokenize(text), true), expected.get(text) ?? text)
  // Not in BERT's vocabulary: the quotation marks of Chinese.
  t.is(joinPieces([...'他说：“你好”。'], true), '他说：“你好”。')
  t.is(joinPieces(['he', 'said', '“', 'go', '”', 'twice'], true), 'he said “go” twice')
})

test('pieces that no text gives are joined all the same', (t) => {
  t.is(joinPieces([], true), '')
  t.is(joinPieces(['##ing', '##s'], true), 'ings')
  t.is(joinPieces(['中', '##文', 'a', '', '##'], true), '中文a ##')
})

test('a joined text has the same pieces again', (t) => {
  const random = randomFrom(2)
  const texts = [
    ...readCases('cases.json').map((one) => one.text),
    ...readCases('unusual.json').map((one) => one.text),
    ...Array.from({ length: 500 }, () => randomText(random, 60)),
    'かな カナ ＡＢ ａｂ 𰀀 𰀀 £ 5 " a " b "c" \'d\' [ e ] - f',
  ]
  let compared = 0
  for (const text of texts) {
    const pieces = bert.tokenize(text).filter((piece) => piece !== '[UNK]')
    t.deepEqual(bert.tokenize(joinPieces(pieces, true)), pieces, JSON.stringify(text))
    compared += pieces.length
  }
  t.true(compared > 5000, `${compared} pieces`)
})
