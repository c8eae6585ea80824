import test from 'ava'
import { questionTokens, TextTokenizer } from '../../lib/index.ts'

const tokenizer = TextTokenizer.fromVocabulary([
  '[PAD]',
  '[UNK]',
  '[CLS]',
  '[SEP]',
  '[MASK]',
  '什',
  '么',
  '红',
  '色',
])
const id = (token: string) => tokenizer.idOf(token)!

test('a question is given, its answer and the end are asked for', (t) => {
  const { ids, valid, target } = questionTokens(
    tokenizer,
    { question: '什么', answer: '红色' },
    { length: 9 },
  )
  const tokens = ['[CLS]', '什', '么', '[SEP]', '红', '色', '[SEP]', '[PAD]', '[PAD]']
  t.deepEqual([...ids], tokens.map(id))
  t.deepEqual([...valid], [1, 1, 1, 1, 1, 1, 1, 0, 0])
  t.deepEqual([...target], [0, 0, 0, 0, 1, 1, 1, 0, 0])
})

test('questions that cannot be', (t) => {
  const code = 'ERR_VILG_INVALID_ARGUMENT'
  const encode =
    (question: string, answer: string, length = 9) =>
    () =>
      questionTokens(tokenizer, { question, answer }, { length })
  t.throws(encode('', '红'), { code, message: /for question/ })
  t.throws(encode('什', ' '), { code, message: /for answer/ })
  t.throws(encode('什么', '红色', 6), { code })
  t.throws(() => questionTokens(tokenizer, { question: '什', answers: '红' } as never, { length: 9 }), {
    message: /unknown key "answers"/,
  })
})
