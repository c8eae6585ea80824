import { createHash } from 'node:crypto'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { parquetWriteFile } from 'hyparquet-writer'
import { writeSafetensors } from '../../../lib/checkpoint/safetensors.ts'
import { type CodeIndex, writeCodeIndex } from '../../../lib/data/codes/code-index.ts'
import { openSource } from '../../../lib/data/sources/open-source.ts'
import { isBroken } from '../../../lib/data/sources/sample.ts'
import {
  png,
  put,
  putNumberedFolder,
  putNumberedParquet,
  putNumberedTar,
  putTar,
  range,
  readAll,
  tempFolder,
} from '../make-data.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
// 红苹果 in GBK
const gbk = Buffer.from([0xba, 0xec, 0xc6, 0xbb, 0xb9, 0xfb])

/** What is broken in a source: as it was opened, and as it is read. */
async function reasons(path: string, options = {}): Promise<Record<string, string>> {
  const source = await openSource(path, options)
  const read = (await readAll(source)).filter(isBroken)
  return Object.fromEntries([...source.broken.listed, ...read].map(({ id, reason }) => [id, reason]))
}

test('all formats give the same samples of the same data, from any number on', async (t) => {
  const folder = await tempFolder(t)
  const values = range(10, 6)
  const lists = await putNumberedFolder(join(folder, 'lists'), values)
  const csv = ['file,text', ...values.map((value) => `${value}.png,${value}`)].join('\n')
  const sources = {
    folder: lists,
    csv: await put(lists, 'list.csv', csv),
    jsonl: await put(
      lists,
      'list.jsonl',
      values.map((v) => `{"file": "${v}.png", "text": "${v}"}\n`).join(''),
    ),
    tar: await putNumberedTar(folder, 'a.tar', values),
    parquet: await putNumberedParquet(folder, 'a.parquet', values, 4),
  }
  const expected = await Promise.all(
    values.map(async (value) => ({ captions: [String(value)], bytes: await png(value) })),
  )
  for (const [name, path] of Object.entries(sources)) {
    const source = await openSource(path)
    t.is(source.kind, 'images')
    const all = await readAll(source)
    const found = await Promise.all(
      all.map(async (sample) => {
        if (isBroken(sample) || !('image' in sample)) throw new Error(name)
        const { image, captions } = sample
        return { captions, bytes: typeof image === 'string' ? await readFile(image) : Buffer.from(image) }
      }),
    )
    t.deepEqual(found, expected, name)
    t.is(new Set(all.map((sample) => sample.id)).size, 6, name)
    const rest: unknown[] = []
    for await (const sample of source.read(0, 2)) rest.push(sample)
    const count = { tar: 6, parquet: 4 }[name] ?? 1
    t.deepEqual(rest, all.slice(Math.min(2, count), count), name)
  }
})

test('fingerprints change with the data, and not with the place', async (t) => {
  const [one, two] = [await tempFolder(t), await tempFolder(t)]
  for (const folder of [one, two]) {
    await putNumberedFolder(join(folder, 'f'), range(0, 2))
    await putNumberedTar(folder, 'a.tar', range(0, 2))
    await putNumberedParquet(folder, 'a.parquet', range(0, 2), 2)
  }
  for (const name of ['f', 'a.tar', 'a.parquet']) {
    const { fingerprint } = await openSource(join(one, name))
    t.is((await openSource(join(two, name))).fingerprint, fingerprint)
  }
  const fingerprint = async (name: string) => (await openSource(join(two, name))).fingerprint
  const before = await Promise.all(['f', 'a.tar'].map(fingerprint))
  await writeFile(join(two, 'f', '1.txt'), 'another')
  await putNumberedTar(two, 'a.tar', range(0, 3))
  const after = await Promise.all(['f', 'a.tar'].map(fingerprint))
  for (const i of [0, 1]) t.not(after[i], before[i])
})

test('folders and lists: what is broken is listed with its place', async (t) => {
  const folder = await tempFolder(t)
  await put(folder, 'a.png', await png(1))
  await put(folder, 'a.txt', gbk)
  await put(folder, 'b.png', await png(1))
  await put(folder, 'b.txt', Buffer.from('\ufeff猫', 'utf16le'))
  await put(folder, 'c.png', await png(1))
  await put(folder, 'd.png', await png(1))
  await put(folder, 'd.txt', '\n \n')
  await put(folder, 'e.png', await png(1))
  await put(folder, 'e.txt', 'e'.repeat(2 ** 20 + 1))
  t.deepEqual(await reasons(folder), {
    'a.png': 'a.txt is not UTF-8 (it reads as GBK, "红苹果": convert it by iconv -f GB18030 -t UTF-8)',
    'b.png': 'b.txt is not UTF-8 (it begins like UTF-16: convert it to UTF-8)',
    'c.png': 'there is no c.txt beside it',
    'd.png': 'd.txt has no caption',
    'e.png': 'e.txt has 1048577 bytes, at most 1048576 are read',
  })
  await put(
    folder,
    'captions.jsonl',
    Buffer.concat([
      Buffer.from('\ufeff{"file": "a.png", "text": "a"}\r\n\n{"file": "b.png", "text": "'),
      gbk,
      Buffer.from('"}\n{"file": "b.png"\n[1]\n{"file": "b.png", "text": 3}\n'),
    ]),
  )
  const listed = await reasons(folder)
  t.deepEqual(
    Object.keys(listed),
    [3, 4, 5, 6].map((line) => `captions.jsonl:${line}`),
  )
  t.regex(listed['captions.jsonl:3']!, /the line is not UTF-8 \(it reads as GBK/)
  t.regex(listed['captions.jsonl:4']!, /the line is not JSON/)
  t.regex(listed['captions.jsonl:5']!, /not an object/)
  t.regex(listed['captions.jsonl:6']!, /text that is neither/)
  await t.throwsAsync(openSource(join(folder, 'none.jsonl')), { code: 'ERR_VILG_IO', message: /none\.jsonl/ })
})

test('CSV: byte order mark, quotes, commas and line breaks in fields, other column names, broken records', async (t) => {
  const folder = await tempFolder(t)
  const csv =
    '\ufeffurl, picture ,title\r\nx,a.png,"一只猫, ""大""\n第二行"\r\n\r\nx,b.png\r\nx,b.png,b\r\nx,a.png,again\r\n'
  const path = await put(folder, 'list.csv', csv)
  const options = { image: 'picture', caption: 'title' }
  const source = await openSource(path, options)
  t.deepEqual(
    (await readAll(source)).map((sample) => [sample.id, (sample as { captions?: string[] }).captions]),
    [
      ['a.png', ['一只猫, "大"\n第二行', 'again']],
      ['b.png', ['b']],
    ],
  )
  t.deepEqual(source.broken.listed, [{ id: 'list.csv:5', reason: 'the record has 2 fields, the header 3' }])
  await t.throwsAsync(openSource(path), {
    ...invalid,
    message:
      /Expected the columns file and text in .*list\.csv, which has url, picture, title\. Name its own/,
  })
  await put(
    folder,
    'list.csv',
    Buffer.concat([Buffer.from('file,text\na.png,a\nb.png,'), gbk, Buffer.from('\nc.png,"c\n')]),
  )
  const broken = await reasons(path)
  t.regex(broken['list.csv:3']!, /a field is not UTF-8 \(it reads as GBK/)
  t.regex(Object.values(broken)[1]!, /not CSV from here on: Quote Not Closed/)
  t.is((await openSource(path)).shards, 1)
  // a quote that takes the rest of a huge file
  await put(folder, 'list.csv', `file,text\na.png,a\nb.png,"${'b'.repeat(2 ** 21)}`)
  t.regex(Object.values(await reasons(path))[0]!, /not CSV from here on: Max Record Size/)
  await put(folder, 'list.csv', Buffer.concat([Buffer.from('file,'), gbk, Buffer.from('\n')]))
  await t.throwsAsync(openSource(path), { ...invalid, message: /a header in UTF-8 .* reads as GBK/ })
})

test('tar: the parts of a sample, its captions, and what is no sample', async (t) => {
  const folder = await tempFolder(t)
  const image = await png(7)
  const path = await putTar(folder, 'a.tar', [
    ['./x/1.jpg', image],
    ['./x/1.txt', '一\n二\n'],
    ['./x/1.json', '{"text": "not this"}'],
    ['x/1.seg.png', 'not a picture of the sample'],
    ['README', 'no sample'],
    ['2.json', '{"texts": ["a", "b"], "url": "u"}'],
    ['2.PNG', image],
    ['3.json', '{"caption": "c"}'],
    ['3.cls', '5'],
    ['3.webp', image],
    ['.hidden.png', image],
    ['.hidden.txt', 'h'],
  ])
  const all = await readAll(await openSource(path))
  t.deepEqual(
    all.map((sample) => [sample.id, (sample as { captions?: string[] }).captions]),
    [
      ['a.tar/x/1', ['一', '二']],
      ['a.tar/2', ['a', 'b']],
      ['a.tar/3', ['c']],
      ['a.tar/.hidden', ['h']],
    ],
  )
  const fromJson = await readAll(await openSource(path, { caption: 'caption' }))
  t.deepEqual(
    fromJson.filter((sample) => !isBroken(sample)).map(({ id }) => id),
    ['a.tar/3'],
  )
})

test('tar: broken samples are left out by themselves', async (t) => {
  const folder = await tempFolder(t)
  const image = await png(7)
  const path = await putTar(folder, 'a.tar', [
    ['twice.png', image],
    ['twice.png', image],
    ['twice.txt', 't'],
    ['two.png', image],
    ['two.jpg', image],
    ['two.txt', 't'],
    ['none.txt', 't'],
    ['silent.png', image],
    ['gbk.png', image],
    ['gbk.txt', gbk],
    ['json.png', image],
    ['json.json', '{'],
    ['array.png', image],
    ['array.json', '[1, 2]'],
    ['good.png', image],
    ['good.txt', 'good'],
    ['twice.png', image],
    ['twice.txt', 't'],
  ])
  const all = await readAll(await openSource(path))
  t.deepEqual(
    all.map(({ index }) => index),
    range(0, 9),
  )
  t.deepEqual(
    all.filter((sample) => !isBroken(sample)).map(({ id }) => id),
    ['a.tar/good'],
  )
  const texts = all.map((sample) => (isBroken(sample) ? sample.reason : ''))
  for (const [i, expected] of [
    /two entries \.png/,
    /several pictures \(\.png, \.jpg\)/,
    /no picture among \.txt/,
    /no \.txt and no \.json/,
    /its \.txt is not UTF-8/,
    /its \.json is not JSON/,
    /its \.json has no texts, text, caption/,
    /^$/,
    /another sample of this shard has the same name/,
  ].entries())
    t.regex(texts[i]!, expected)
})

test('tar: entries that are too large are passed over, not read', async (t) => {
  const folder = await tempFolder(t)
  const path = await putTar(folder, 'a.tar', [
    ['1.png', Buffer.alloc(64 * 1024 * 1024 + 1)],
    ['1.txt', 'huge'],
    ['2.png', await png(2)],
    ['2.txt', 'good'],
  ])
  const [first, second] = await readAll(await openSource(path))
  t.regex((first as { reason: string }).reason, /its \.png has 67108865 bytes, at most 67108864 are read/)
  t.is(second!.id, 'a.tar/2')
})

test('tar: a shard that is truncated or damaged in the middle gives what comes before', async (t) => {
  const folder = await tempFolder(t)
  const path = await putNumberedTar(folder, 'a.tar', range(0, 4))
  const bytes = await readFile(path)
  for (const length of [bytes.length / 2, bytes.length / 2 + 700, 5 * 512 + 20]) {
    await truncate(path, length)
    const all = await readAll(await openSource(path))
    const broken = all.filter(isBroken)
    t.is(broken.length, 1, `${length}`)
    t.regex(broken[0]!.reason, /truncated, damaged or no tar file after the entry .*Unexpected end of data/)
    t.is(broken[0]!, all.at(-1) as never)
    t.deepEqual(
      all.slice(0, -1).map(({ id }) => id),
      range(0, all.length - 1).map((i) => `a.tar/${i}`),
    )
    await writeFile(path, bytes)
  }
  const damaged = Buffer.from(bytes)
  damaged.fill(0x41, 8 * 512, 9 * 512)
  await writeFile(path, damaged)
  const all = await readAll(await openSource(path))
  t.true(all.length >= 2 && isBroken(all.at(-1)!))
  await writeFile(path, 'magic?'.repeat(1000))
  t.regex((await reasons(path))['a.tar']!, /no tar file: Invalid/)
})

test('Parquet: other columns, structs and lists as Hugging Face has them, compressions', async (t) => {
  const folder = await tempFolder(t)
  const images = await Promise.all(range(0, 3).map(png))
  const filename = join(folder, 'hf.parquet')
  parquetWriteFile({
    filename,
    codec: 'UNCOMPRESSED',
    schema: [
      { name: 'root', num_children: 2 },
      { name: 'img', repetition_type: 'OPTIONAL', num_children: 2 },
      { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
      { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      { name: 'titles', repetition_type: 'OPTIONAL', converted_type: 'LIST', num_children: 1 },
      { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
      { name: 'element', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
    ],
    columnData: [
      { name: 'img', data: images.map((bytes, i) => ({ bytes, path: `${i}.png` })) },
      { name: 'titles', data: [['一', '二'], ['三'], []] },
    ],
  })
  const source = await openSource(filename, { image: 'img', caption: 'titles' })
  const all = await readAll(source)
  t.deepEqual(
    all.map((sample) => (isBroken(sample) ? sample.reason : sample.captions)),
    [['一', '二'], ['三'], 'it has no caption'],
  )
  t.deepEqual(Buffer.from((all[1] as { image: Uint8Array }).image), images[1])
  await t.throwsAsync(openSource(filename), {
    ...invalid,
    message: /Expected the columns image and text in .*hf\.parquet, which has img, titles/,
  })
})

test('Parquet: broken rows, groups and files', async (t) => {
  const folder = await tempFolder(t)
  parquetWriteFile({
    filename: join(folder, 'a.parquet'),
    columnData: [
      { name: 'image', data: [await png(1), null, await png(3)], type: 'BYTE_ARRAY', nullable: true },
      { name: 'text', data: [gbk, Buffer.from('b'), Buffer.from('c')], type: 'BYTE_ARRAY' },
    ],
  })
  const rows = await reasons(folder)
  t.regex(rows['a.parquet/0']!, /its text is not UTF-8 \(it reads as GBK/)
  t.is(rows['a.parquet/1'], 'its image has no bytes')
  const path = await putNumberedParquet(folder, 'b.parquet', range(0, 8), 4)
  const bytes = await readFile(path)
  bytes.fill(0xff, 4, 60)
  await writeFile(path, bytes)
  const found = await reasons(folder)
  t.regex(found['b.parquet']!, /truncated or damaged in row group 0/)
  t.is((await readAll(await openSource(path))).filter((sample) => !isBroken(sample)).length, 4)
  await truncate(path, Math.floor(bytes.length / 2))
  t.regex((await reasons(folder))['b.parquet']!, /no Parquet file/)
})

test('codes: damaged shards and rows are left out', async (t) => {
  const folder = await tempFolder(t)
  const shards: CodeIndex['shards'] = []
  for (const number of range(0, 3)) {
    const shard = { codes: `${number}.safetensors`, captions: `${number}.jsonl`, count: 2 }
    const data = Int32Array.from([0, 1, 2, 3, 3, 2, 1, number === 2 ? 4 : 0])
    await writeSafetensors(join(folder, shard.codes), [{ name: 'image', dtype: 'I32', shape: [2, 4], data }])
    await put(
      folder,
      shard.captions,
      range(0, 2)
        .map((i) => `{"id": "${number}-${i}", "captions": ["c"]}\n`)
        .join(''),
    )
    shards.push({
      ...shard,
      end: { shard: 0, index: 0 },
      read: 2,
      broken: { count: 0, listed: [] },
      dropped: {},
    })
  }
  const index: CodeIndex = {
    format: 'ernie-vilg-codes',
    version: 2,
    model: { fingerprint: createHash('sha256').digest('hex'), resolution: 8, grid: 2, codebookSize: 4 },
    source: '',
    fit: 'cover',
    rules: {},
    shardSize: 2,
    shards,
    broken: { count: 0, listed: [] },
    complete: true,
  }
  await writeCodeIndex(folder, index)
  const all = await readAll(await openSource(folder))
  t.deepEqual(
    all.filter((sample) => !isBroken(sample)).map(({ id }) => id),
    ['0-0', '0-1', '1-0', '1-1', '2-0'],
  )
  t.deepEqual((all[1] as { codes: Int32Array }).codes, Int32Array.from([3, 2, 1, 0]))
  t.regex((await reasons(folder))['2-1']!, /codes outside 0 to 3/)

  await truncate(join(folder, '0.safetensors'), 60)
  await put(folder, '1.jsonl', '{"id": "1-0", "captions": []}\n{"id": "1-1"')
  const found = await reasons(folder)
  t.true(found['0.safetensors']!.length > 10)
  t.regex(found['1.safetensors']!, /Expected 2 lines in 1\.jsonl, found 1/)
  await put(folder, '1.jsonl', '{"id": "1-0", "captions": []}\n{"id": "1-1", "captions": ["x"]}\n')
  t.regex((await reasons(folder))['1.jsonl:1']!, /not \{ id, captions \}/)
  await put(folder, '0.safetensors', 'wrong magic, wrong everything')
  t.true((await reasons(folder))['0.safetensors']!.length > 10)

  await writeCodeIndex(folder, { ...index, complete: false })
  await t.throwsAsync(openSource(folder), { ...invalid, message: /not finished/ })
  for (const bad of [{ version: 1 }, { shards: [{ ...shards[0], codes: '../x' }] }, { model: null }]) {
    await writeCodeIndex(folder, { ...index, ...bad } as CodeIndex)
    await t.throwsAsync(openSource(folder), { code: 'ERR_VILG_CHECKPOINT_FORMAT', message: /version 2/ })
  }
})

test('what a path is, and what it cannot be', async (t) => {
  const folder = await tempFolder(t)
  await t.throwsAsync(openSource(join(folder, 'none')), { code: 'ERR_VILG_IO', message: /none/ })
  await t.throwsAsync(openSource(await put(folder, 'a.zip', 'x')), {
    ...invalid,
    message: /\.jsonl, \.csv, \.tar or \.parquet/,
  })
  await put(folder, 'a.tar', '')
  await put(folder, 'b.parquet', '')
  await t.throwsAsync(openSource(folder), { ...invalid, message: /found both/ })
  t.is((await openSource(folder, { format: 'tar' })).shards, 1)
  t.is((await openSource(folder, { format: 'list' })).shards, 0)
  await t.throwsAsync(openSource(folder, { format: 'tar', image: 'x' }), {
    ...invalid,
    message: /openSource options \(tar\).*"image"/,
  })
  await t.throwsAsync(openSource(folder, { format: 'zip' as never }), { ...invalid, message: /for format/ })
  await t.throwsAsync(openSource(folder, { format: 'list', caption: 3 as never }), {
    ...invalid,
    message: /for caption/,
  })
  await t.throwsAsync(openSource(await tempFolder(t), { format: 'parquet' }), {
    ...invalid,
    message: /has none/,
  })
})
