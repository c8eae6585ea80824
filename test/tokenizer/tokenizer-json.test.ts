import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'

async function makeFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-tokenizer-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const added = (content: string, id: number) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
})

// Byte-pair encoding with a metaspace, as sentencepiece models have it. Id 9 is a hole.
const bpe = {
  version: '1.0',
  added_tokens: [added('<pad>', 0), added('<s>', 1), added('</s>', 2), added('<unk>', 3)],
  normalizer: null,
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', add_prefix_space: true, prepend_scheme: 'always' },
  post_processor: null,
  decoder: { type: 'Metaspace', replacement: '▁', add_prefix_space: true, prepend_scheme: 'always' },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    fuse_unk: false,
    byte_fallback: false,
    vocab: { '<pad>': 0, '<s>': 1, '</s>': 2, '<unk>': 3, '▁': 4, a: 5, b: 6, ab: 7, '▁ab': 8, 熊: 10 },
    merges: ['a b', '▁ ab'],
  },
}

const wordPiece = {
  version: '1.0',
  added_tokens: ['[PAD]', '[UNK]', '[CLS]', '[SEP]'].map(added),
  normalizer: {
    type: 'BertNormalizer',
    clean_text: true,
    handle_chinese_chars: true,
    strip_accents: null,
    lowercase: true,
  },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  post_processor: null,
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: {
      '[PAD]': 0,
      '[UNK]': 1,
      '[CLS]': 2,
      '[SEP]': 3,
      小: 4,
      熊: 5,
      play: 6,
      '##ing': 7,
      chess: 8,
      '，': 9,
    },
  },
}

test('byte-pair encoding by a tokenizer.json', async (t) => {
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(bpe))
  const tokenizer = await TextTokenizer.load(folder)
  t.is(tokenizer.vocabSize, 11)
  t.deepEqual([tokenizer.padId, tokenizer.clsId, tokenizer.sepId, tokenizer.unkId], [0, 1, 2, 3])
  const { ids, valid, tokens } = tokenizer.encode('ab 熊z', { length: 9 })
  t.deepEqual([...ids], [1, 8, 4, 10, 3, 2, 0, 0, 0])
  t.deepEqual([...valid], [1, 1, 1, 1, 1, 1, 0, 0, 0])
  t.deepEqual(tokens, ['▁ab', '▁', '熊', '<unk>'])
  t.is(tokenizer.decode(ids), 'ab 熊')
  t.is(tokenizer.decode([0, 1, 2]), '')
  t.is(tokenizer.tokenOf(9), undefined)
  t.throws(() => tokenizer.decode([9]), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  t.deepEqual([...tokenizer.encode('').tokens], [])
  t.true(tokenizer.encode('ab'.repeat(5e4), { length: 16, truncate: true }).ids.length === 16)
})

test('WordPiece by a tokenizer.json decodes Chinese without spaces', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'tokenizer.json')
  await writeFile(path, JSON.stringify(wordPiece))
  const tokenizer = await TextTokenizer.load(path)
  const { ids, tokens } = tokenizer.encode('小熊，Playing chess')
  t.deepEqual(tokens, ['小', '熊', '，', 'play', '##ing', 'chess'])
  t.is(tokenizer.decode(ids), '小熊，playing chess')
})

test('the names in tokenizer_config.json count first', async (t) => {
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(bpe))
  const config = { pad_token: { content: '</s>' }, bos_token: 'a', unk_token: 'b' }
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config))
  const tokenizer = await TextTokenizer.load(folder)
  t.deepEqual([tokenizer.padId, tokenizer.clsId, tokenizer.sepId, tokenizer.unkId], [2, 5, 2, 6])
})

test('save writes the same files back', async (t) => {
  const folder = await makeFolder(t)
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(bpe))
  const alone = await TextTokenizer.load(folder)
  await alone.save(join(folder, 'copy.json'))
  t.is(await readFile(join(folder, 'copy.json'), 'utf8'), JSON.stringify(bpe))
  await writeFile(join(folder, 'tokenizer_config.json'), '{"pad_token": "<pad>"}')
  const configured = await TextTokenizer.load(folder)
  await t.throwsAsync(configured.save(join(folder, 'other.json')), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  await t.throwsAsync(configured.save(join(folder, 'vocab.txt')), { message: /a folder or a \.json file/ })
  const copy = join(folder, 'copy')
  await configured.save(copy)
  t.deepEqual(await readdir(copy), ['tokenizer.json', 'tokenizer_config.json'])
  t.deepEqual((await TextTokenizer.load(copy)).encode('ab').ids, configured.encode('ab').ids)
  await writeFile(join(copy, 'vocab.txt'), '')
  await t.throwsAsync(configured.save(copy), { message: /without a vocab\.txt/ })
})

test('files that are no tokenizer', async (t) => {
  const folder = await makeFolder(t)
  const path = join(folder, 'tokenizer.json')
  const refuses = async (content: unknown, code: string, message: RegExp) => {
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
    await t.throwsAsync(TextTokenizer.load(path), { code, message })
  }
  const format = 'ERR_VILG_CHECKPOINT_FORMAT'
  await refuses('{', format, /Expected JSON/)
  await refuses('[]', format, /Expected a JSON object/)
  await refuses('{}', format, /Expected a tokenizer/)
  await refuses({ ...bpe, model: null }, format, /Expected a tokenizer/)
  await refuses({ ...bpe, added_tokens: null }, format, /Expected a tokenizer/)
  const lying = { ...bpe, added_tokens: [added('<pad>', 4e9)] }
  await refuses(lying, format, /Expected token ids from 0 to \d+ .* found 4000000000/)
  const { '<pad>': _, ...vocab } = bpe.model.vocab
  const padless = { ...bpe, added_tokens: bpe.added_tokens.slice(1), model: { ...bpe.model, vocab } }
  await refuses(
    padless,
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    /Expected a PAD token .* pad_token of tokenizer_config/,
  )
})
