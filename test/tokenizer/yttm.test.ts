import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { mergePairs } from '../../lib/tokenizer/merge-pairs.ts'
import { TextTokenizer } from '../../lib/tokenizer/text-tokenizer.ts'
import { randomFrom } from './helpers.ts'

// A model as YouTokenToMe writes it: characters ▁ a b c д, and rules ab, ▁ab, aa, ▁aab; ids 0 to 3 are PAD UNK BOS EOS
const model = `5 5
9601 4
97 5
98 6
99 7
1076 8
5 6 9
4 9 10
5 5 11
4 11 12
12 6 13
1 0 2 3
`

async function folderWith(t: ExecutionContext, text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-tokenizer-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'bpe.model'), text)
  return folder
}

test('a model of YouTokenToMe: rules by their rank, unknown characters, case and spaces', async (t) => {
  const tokenizer = await TextTokenizer.load(await folderWith(t, model))
  t.is(tokenizer.vocabSize, 14)
  t.deepEqual([tokenizer.padId, tokenizer.clsId, tokenizer.sepId, tokenizer.unkId], [0, 2, 3, 1])
  const ids = (text: string) => [...tokenizer.encode(text).ids].slice(1, -1)
  t.deepEqual(ids('ab'), [10])
  // ab (rank 0) comes before aa (rank 2), wherever it stands
  t.deepEqual(ids('aab'), [4, 5, 9])
  t.deepEqual(ids('aa'), [12])
  t.deepEqual(ids('aaa'), [12, 5])
  t.deepEqual(ids('aabab'), [4, 5, 9, 9])
  t.deepEqual(ids('  AB \t д\n\u2581c '), [10, 4, 8, 4, 7])
  // a no-break space is no space to YouTokenToMe; neighbours that it does not know are one UNK
  t.deepEqual(ids('a\u00a0zzb'), [4, 5, 1, 6])
  t.deepEqual(ids('\u{1f600}a\u{1f600}'), [4, 1, 5, 1])
  t.deepEqual(ids(' \n'), [])
  const { ids: padded, valid, tokens } = tokenizer.encode('ab c', { length: 7 })
  t.deepEqual([...padded], [2, 10, 4, 7, 3, 0, 0])
  t.deepEqual([...valid], [1, 1, 1, 1, 1, 0, 0])
  t.deepEqual(tokens, ['▁ab', '▁', 'c'])
  t.is(tokenizer.decode(padded), 'ab c')
  t.is(tokenizer.decode([4, 8, 1, 9]), 'дab')
  t.is(tokenizer.decode([]), '')
  t.is(tokenizer.tokenOf(13), '▁aab')
  t.is(tokenizer.idOf('<BOS>'), 2)
})

test('what is saved loads again; upper case stays where the config says so', async (t) => {
  const folder = await folderWith(t, model.replace('97 5', '65 5'))
  await writeFile(join(folder, 'tokenizer_config.json'), '{"do_lower_case": false}')
  const tokenizer = await TextTokenizer.load(folder)
  t.deepEqual([...tokenizer.encode('Aa').ids], [2, 4, 5, 1, 3])
  await t.throwsAsync(tokenizer.save(join(folder, 'one.model')), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  const copy = join(folder, 'copy')
  await tokenizer.save(copy)
  t.deepEqual(await readdir(copy), ['bpe.model', 'tokenizer_config.json'])
  t.deepEqual((await TextTokenizer.load(copy)).encode('Aa').ids, tokenizer.encode('Aa').ids)
  await writeFile(join(copy, 'tokenizer.json'), '')
  await t.throwsAsync(tokenizer.save(copy), { message: /without a tokenizer\.json/ })

  const lower = await TextTokenizer.load(join(await folderWith(t, model), 'bpe.model'))
  await lower.save(join(folder, 'one.model'))
  t.is(await readFile(join(folder, 'one.model'), 'utf8'), model)
  await t.throwsAsync(lower.save(join(folder, 'one.json')), { message: /a folder or a \.model file/ })
})

test('byte-pair encoding gives what joining the best pair again and again gives', (t) => {
  const random = randomFrom(5)
  const pick = (count: number) => Math.floor(random() * count)
  for (let round = 0; round < 300; round++) {
    // rules over symbols 0 to 3 and over what earlier rules made
    const rules = new Map<number, { rank: number; whole: number }>()
    for (let rank = 0; rank < 12; rank++) {
      const key = pick(4 + rank) * 64 + pick(4 + rank)
      if (!rules.has(key)) rules.set(key, { rank, whole: 4 + rank })
    }
    const keyOf = (left: number, right: number) => left * 64 + right
    const symbols = Array.from({ length: pick(40) }, () => pick(4))
    const expected = [...symbols]
    for (;;) {
      const pairs = expected
        .slice(1)
        .map((right, i) => rules.get(keyOf(expected[i]!, right))?.rank ?? Infinity)
      const best = Math.min(...pairs)
      if (best === Infinity) break
      const at = pairs.indexOf(best)
      expected.splice(at, 2, rules.get(keyOf(expected[at]!, expected[at + 1]!))!.whole)
    }
    t.deepEqual(mergePairs(symbols, rules, keyOf), expected)
  }
})

test('a text of one long word takes no longer than its length asks for', async (t) => {
  const tokenizer = await TextTokenizer.load(await folderWith(t, model))
  const { tokens } = tokenizer.encode('ab'.repeat(2e5))
  t.is(tokens.length, 2e5)
})

test('files that are no model', async (t) => {
  const refuses = async (text: string, message: RegExp, code = 'ERR_VILG_CHECKPOINT_FORMAT') => {
    await t.throwsAsync(TextTokenizer.load(await folderWith(t, text)), { code, message }, text)
  }
  await refuses('', /a model of YouTokenToMe .* found the end of the file/)
  await refuses('\u0000\u000a\u0005<unk>', /a model of YouTokenToMe/)
  await refuses('5 5 9601', /31 numbers .*found 3/s)
  await refuses(model.replace('1 0 2 3', '1 0 2 3 4'), /31 numbers .*found 32/)
  await refuses(model.replace('97 5', '97 6'), /each id once, found 6 twice/)
  await refuses(model.replace('97 5', '98 5'), /each character once, found "b" twice/)
  await refuses(model.replace('97 5', '1114112 5'), /a code point from 0 to 1114111/)
  await refuses(model.replace('97 5', '97 99999999'), /an id from 0 to 16777216/)
  await refuses(model.replace('9601', '9602'), /U\+2581/)
  await refuses(model.replace('5 6 9', '5 9 9'), /rules over tokens that come before them, found 9/)
  await refuses(model.replace('1 0 2 3', '1 0 2 4'), /found 4, of EOS, twice/)
  await refuses(model.replace('1 0 2 3', '1 0 -1 3'), /without BOS/, 'ERR_VILG_CHECKPOINT_INCOMPATIBLE')
  // each rule doubles the token before it
  const doubling = Array.from({ length: 40 }, (_, i) => `${4 + i} ${4 + i} ${5 + i}`).join('\n')
  await refuses(`1 40\n9601 4\n${doubling}\n1 0 2 3\n`, /tokens of at most 4096 characters/)
  const without = await TextTokenizer.load(await folderWith(t, model.replace('1 0 2 3', '-1 0 2 3')))
  t.is(without.unkId, null)
  t.throws(() => without.encode('z'), {
    code: 'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    message: /cannot write "z"/,
  })
})
