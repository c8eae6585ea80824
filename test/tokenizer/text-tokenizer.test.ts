import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'
import { randomFrom, randomText, readCases, readVocabulary, vocabularyPath } from './helpers.ts'

const code = 'ERR_VILG_INVALID_ARGUMENT'
const bert = await TextTokenizer.load(vocabularyPath)
const anything = (value: unknown) => value as never

async function makeFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-tokenizer-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

test('the ids of every fixture case, framed by CLS and SEP', (t) => {
  for (const { text, tokens, ids } of [...readCases('cases.json'), ...readCases('unusual.json')]) {
    const encoded = bert.encode(text)
    t.deepEqual([...encoded.ids], [101, ...ids, 102])
    t.deepEqual(encoded.tokens, tokens)
    t.deepEqual(encoded.valid, new Uint8Array(ids.length + 2).fill(1))
    t.true(encoded.ids instanceof Int32Array)
  }
})

test('getters and look-ups', (t) => {
  t.is(bert.vocabSize, 21128)
  t.is(bert.padId, 0)
  t.is(bert.unkId, 100)
  t.is(bert.clsId, 101)
  t.is(bert.sepId, 102)
  t.is(bert.idOf('熊'), 4220)
  t.is(bert.idOf('no such token'), undefined)
  t.is(bert.idOf('__proto__'), undefined)
  t.is(bert.tokenOf(4220), '熊')
  for (const id of [-1, 21128, 0.5, NaN]) t.throws(() => bert.tokenOf(id), { code, instanceOf: RangeError })
  t.throws(() => bert.idOf(anything(3)), { code, instanceOf: TypeError })
})

test('length pads, fits exactly, and never cuts unasked', (t) => {
  const padded = bert.encode('小熊', { length: 6 })
  t.deepEqual([...padded.ids], [101, 2207, 4220, 102, 0, 0])
  t.deepEqual([...padded.valid], [1, 1, 1, 1, 0, 0])
  t.deepEqual(padded.tokens, ['小', '熊'])
  t.deepEqual([...bert.encode('小熊', { length: 4 }).ids], [101, 2207, 4220, 102])
  t.throws(() => bert.encode('戴眼镜的小熊', { length: 5 }), {
    code,
    instanceOf: RangeError,
    message:
      'Expected a text of at most 3 tokens beside CLS and SEP for text, received 6 tokens; shorten it, or pass truncate: true',
  })
  const cut = bert.encode('戴眼镜的小熊', { length: 5, truncate: true })
  t.deepEqual(cut.tokens, ['戴', '眼', '镜'])
  t.is(cut.ids[4], 102)
  t.deepEqual([...bert.encode('小熊', { length: 5, truncate: true }).valid], [1, 1, 1, 1, 0])
})

test('pairs', (t) => {
  const both = bert.encode('小熊', { pair: '什么颜色', length: 10 })
  t.deepEqual(both.tokens, ['小', '熊', '[SEP]', '什', '么', '颜', '色'])
  t.deepEqual([...both.ids.slice(0, 4)], [101, 2207, 4220, 102])
  t.is(both.ids[8], 102)
  t.deepEqual([...both.valid], [1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
  t.throws(() => bert.encode('小熊', { pair: '什么颜色', length: 8 }), {
    code,
    message: /texts of at most 5 tokens beside CLS, SEP and SEP for text and pair, received 6 tokens/,
  })
  t.is(bert.encode('小熊', { pair: ' ' }).ids.at(-2), bert.sepId)
  t.is(bert.decode(both.ids), '小熊什么颜色')
})

test('truncated pairs lose tokens from the longer part, as in BERT', (t) => {
  const slowly = (first: number, second: number, room: number) => {
    while (first + second > room) first > second ? first-- : second--
    return [first, second]
  }
  for (let first = 1; first < 9; first++) {
    for (let second = 1; second < 9; second++) {
      for (let room = 1; room < 12; room++) {
        const options = { pair: 'b '.repeat(second), length: room + 3, truncate: true }
        const { tokens } = bert.encode('a '.repeat(first), options)
        const count = (letter: string) => tokens.filter((token) => token === letter).length
        t.deepEqual([count('a'), count('b')], slowly(first, second, room), `${first} ${second} ${room}`)
      }
    }
  }
})

test('a text without tokens gives CLS SEP', (t) => {
  for (const text of ['', '  \t\n', '\0', '\u200b', '\u0301']) {
    t.deepEqual([...bert.encode(text).ids], [101, 102])
  }
  t.deepEqual([...bert.encode('', { length: 3 }).valid], [1, 1, 0])
})

test('bad arguments of encode and decode', (t) => {
  for (const text of [undefined, null, 3, ['a'], Buffer.from('a')]) {
    t.throws(() => bert.encode(anything(text)), { code, instanceOf: TypeError })
  }
  for (const length of [0, 2, -1, 3.5, NaN, Infinity, '8', null]) {
    t.throws(() => bert.encode('a', { length: anything(length) }), { code })
  }
  t.throws(() => bert.encode('a', { pair: 'b', length: 3 }), { code })
  t.throws(() => bert.encode('a', { truncate: anything(1) }), { code, instanceOf: TypeError })
  t.throws(() => bert.encode('a', { pair: anything(null) }), { code, instanceOf: TypeError })
  t.throws(() => bert.encode('a', anything({ maxLength: 3 })), { code, message: /unknown key "maxLength"/ })
  for (const ids of [[21128], [-1], [NaN], [1.5]])
    t.throws(() => bert.decode(ids), { code, instanceOf: RangeError })
  for (const ids of [null, 3, 'abc', ['1'], {}, [1, undefined]]) {
    t.throws(() => bert.decode(anything(ids)), { code, instanceOf: TypeError })
  }
})

test('decode drops special tokens and takes any array', (t) => {
  const { ids } = bert.encode('一只 Corgi 在 running', { length: 20 })
  t.is(bert.decode(ids), '一只corgi在running')
  t.is(bert.decode(ids.subarray(1, 3)), '一只')
  t.is(bert.decode([]), '')
  t.is(bert.decode([0, 100, 101, 102, 103]), '')
  t.is(bert.decode({ length: 1, 0: 4220 }), '熊')
})

test('a special token in a text is text', (t) => {
  const { ids } = bert.encode('[SEP] [PAD]')
  t.is([...ids].filter((id) => id === bert.sepId).length, 1)
  t.false(ids.includes(bert.padId))
})

test('random texts give ids of the vocabulary and decode', (t) => {
  const random = randomFrom(5)
  for (let round = 0; round < 300; round++) {
    const text = randomText(random, 1 + Math.floor(random() * 100))
    const { ids, valid } = bert.encode(text, { length: 64, truncate: true })
    t.is(ids.length, 64)
    t.true(ids.every((id) => id >= 0 && id < bert.vocabSize))
    t.is(ids[valid.lastIndexOf(1)], bert.sepId)
    t.is(typeof bert.decode(ids), 'string')
  }
})

test('100 KB of text', (t) => {
  const text = '画一只 cat! 😀 '.repeat(9000)
  t.is(bert.encode(text, { length: 127, truncate: true }).ids.length, 127)
  const { ids } = bert.encode(text)
  t.is(ids.length, 9000 * 6 + 2)
  t.true(bert.decode(ids).startsWith('画一只cat!画一只cat!'))
})

test('save and load, as a file and as a folder', async (t) => {
  const folder = await makeFolder(t)
  const file = join(folder, 'deep', 'vocab.txt')
  await bert.save(file)
  t.deepEqual(await readFile(file), await readFile(vocabularyPath))
  await bert.save(join(folder, 'bundle'))
  t.deepEqual(await readdir(join(folder, 'bundle')), ['tokenizer_config.json', 'vocab.txt'])
  const { ids } = bert.encode('戴眼镜的 Teddy')
  for (const path of [file, join(folder, 'bundle')]) {
    t.deepEqual((await TextTokenizer.load(path)).encode('戴眼镜的 Teddy').ids, ids)
  }
})

test('a cased vocabulary stays cased through a folder, and refuses a file that could not say so', async (t) => {
  const folder = await makeFolder(t)
  const tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'É', 'e', 'É'.normalize('NFD')]
  const cased = TextTokenizer.fromVocabulary(tokens, { lowerCase: false })
  t.deepEqual(cased.encode('É e').tokens, ['É', 'e'])
  t.is(cased.decode([6]), 'É'.normalize('NFD'))
  await t.throwsAsync(cased.save(join(folder, 'vocab.txt')), { code, message: /Expected a folder for path/ })
  await cased.save(folder)
  t.deepEqual((await TextTokenizer.load(folder)).encode('É e').tokens, ['É', 'e'])
  t.deepEqual(TextTokenizer.fromVocabulary(tokens).encode('É e').tokens, ['e', 'e'])
})

test('a failed save leaves the old file and no draft', async (t) => {
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'taken'), 'a file, not a folder')
  await t.throwsAsync(bert.save(join(folder, 'taken')), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(bert.save(join(folder, 'taken', 'vocab.txt')), { code: 'ERR_VILG_IO' })
  const target = join(folder, 'vocab.txt')
  await bert.save(join(target, 'inner')) // now vocab.txt is a folder, and no file can take its name
  await t.throwsAsync(bert.save(target), { code: 'ERR_VILG_IO' })
  t.deepEqual(await readdir(folder), ['taken', 'vocab.txt'])
  t.is(await readFile(join(folder, 'taken'), 'utf8'), 'a file, not a folder')
})

test('vocabulary files in other dress: returns, no last line break, byte order mark, ERNIE with ids', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'vocab.txt')
  const tokens = ['[PAD]', '[CLS]', '[SEP]', '[UNK]', '熊']
  for (const text of [
    tokens.join('\r\n'),
    `\ufeff${tokens.join('\n')}`,
    tokens.map((token, id) => `${token}\t${id}\n`).join(''),
  ]) {
    await writeFile(path, text)
    const tokenizer = await TextTokenizer.load(path)
    t.is(tokenizer.vocabSize, 5)
    t.deepEqual([...tokenizer.encode('熊猫').ids], [1, 4, 3, 2])
  }
})

test('files that are no vocabulary', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'vocab.txt')
  await t.throwsAsync(TextTokenizer.load(path), { code: 'ERR_VILG_IO', message: /ENOENT/ })
  await t.throwsAsync(TextTokenizer.load(folder), { code: 'ERR_VILG_IO', message: /found none of them/ })
  await t.throwsAsync(TextTokenizer.load(anything(undefined)), { code })
  const format = 'ERR_VILG_CHECKPOINT_FORMAT'
  const refuses = async (content: string | Uint8Array, message: RegExp) => {
    await writeFile(path, content)
    await t.throwsAsync(TextTokenizer.load(path), { code: format, message })
  }
  await refuses('', /missing \[PAD\], \[UNK\], \[CLS\], \[SEP\]/)
  await refuses('[PAD]\n[CLS]\n[SEP]\n', /missing \[UNK\]/)
  await refuses(Uint8Array.of(0xff, 0xfe, 0x00), /UTF-8/)
  await refuses('[PAD]\t0\n[CLS]\t2\n', /a tab and 1, in line 2/)
  await writeFile(join(folder, 'tokenizer_config.json'), '{"do_lower_case": "yes"}')
  await refuses('[PAD]\n[CLS]\n[SEP]\n[UNK]\n', /do_lower_case/)
  await writeFile(join(folder, 'tokenizer_config.json'), '[1')
  await refuses('[PAD]\n[CLS]\n[SEP]\n[UNK]\n', /Expected JSON/)
})

test('fromVocabulary refuses what could not be saved', (t) => {
  const special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]']
  t.is(TextTokenizer.fromVocabulary([...special, '\u2028']).vocabSize, 5)
  for (const bad of ['', ' a', 'a ', 'a\nb', 'a\tb', '\ud83d', '[PAD]', 3, undefined]) {
    t.throws(() => TextTokenizer.fromVocabulary([...special, anything(bad)]), {
      code,
      message: /for tokens\[4\]/,
    })
  }
  t.throws(() => TextTokenizer.fromVocabulary(anything('abc')), { code })
  t.throws(() => TextTokenizer.fromVocabulary(special.slice(1)), { message: /missing \[PAD\]/ })
  t.throws(() => TextTokenizer.fromVocabulary(special, anything({ cased: true })), { code })
  t.throws(() => TextTokenizer.fromVocabulary(special, { lowerCase: anything(1) }), { code })
  const tokens = [...special, '熊']
  const tokenizer = TextTokenizer.fromVocabulary(tokens)
  tokens[4] = '猫'
  t.is(tokenizer.tokenOf(4), '熊')
  t.is(TextTokenizer.fromVocabulary(readVocabulary()).vocabSize, 21128)
})
