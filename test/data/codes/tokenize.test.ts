import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  codeReport,
  tokenizeSource,
  type TokenizeSourceOptions,
} from '../../../lib/data/codes/tokenize-source.ts'
import { characterRule } from '../../../lib/data/filters/caption-rules.ts'
import { duplicateRule } from '../../../lib/data/filters/duplicate-rules.ts'
import { encodePng, type RgbImage } from '../../../lib/data/image.ts'
import { openSource } from '../../../lib/data/sources/open-source.ts'
import { isBroken, type SampleSource } from '../../../lib/data/sources/sample.ts'
import { ImageTokenizer } from '../../../lib/model/image-tokenizer.ts'
import { savedBundle } from '../../cli/helpers.ts'
import { picture } from '../../sampler/bundle.ts'
import { putTar, range, readAll, tempFolder } from '../make-data.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }

/** Two shards with 13 samples: some twice, some with special characters, some broken. */
async function mixedSource(folder: string): Promise<SampleSource<'images'>> {
  const png = (value: number) => encodePng(picture(value) as RgbImage)
  const samples: [key: string, image: Uint8Array, caption: string][] = []
  for (const i of range(0, 13)) {
    const image = i === 4 ? Buffer.from('no picture') : await png(i % 5 === 3 ? 3 : i)
    samples.push([String(i), image, i % 6 === 5 ? '猫🙂' : '猫'])
  }
  const entries = samples.flatMap(([key, image, caption]) => [
    [`${key}.png`, image] as const,
    [`${key}.txt`, caption] as const,
  ])
  await putTar(folder, 'a.tar', entries.slice(0, 14))
  await putTar(folder, 'b.tar', entries.slice(14))
  return (await openSource(folder)) as SampleSource<'images'>
}

async function setting(t: ExecutionContext) {
  const tokenizerFolder = join(await savedBundle(t), 'image-tokenizer')
  const tokenizer = await ImageTokenizer.load(tokenizerFolder)
  t.teardown(() => tokenizer.dispose())
  const folder = await tempFolder(t)
  const source = await mixedSource(join(folder))
  const run = (out: string, more: Partial<TokenizeSourceOptions> = {}) =>
    tokenizeSource(tokenizer, source, out, {
      tokenizerFolder,
      shardSize: 3,
      batch: 2,
      rules: [characterRule(), duplicateRule()],
      ...more,
    })
  return { tokenizer, tokenizerFolder, folder, source, run }
}

async function contents(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).sort()
  return Object.fromEntries(
    await Promise.all(
      names.map(async (name) => [name, await readFile(join(folder, name), 'base64')] as const),
    ),
  )
}

test('kept pictures fill the shards; what was left out is counted by cause', async (t) => {
  const { run, folder } = await setting(t)
  const out = join(folder, 'out')
  const progress: [number, number][] = []
  const index = await run(out, { onProgress: (...event) => progress.push(event) })
  const { problems, ...report } = codeReport(index)
  // 4 is broken, 5 and 11 have a special character, 8 is the picture of 3
  t.deepEqual(report, {
    read: 13,
    kept: 9,
    broken: 1,
    dropped: { characters: { samples: 2, captions: 2 }, duplicates: { samples: 1, captions: 1 } },
  })
  t.deepEqual(
    problems.map(({ id }) => id),
    ['a.tar/4'],
  )
  t.deepEqual(
    index.shards.map(({ count }) => count),
    [3, 3, 3],
  )
  t.deepEqual(
    index.shards.map(({ end }) => end),
    [
      { shard: 0, index: 3 },
      { shard: 1, index: 1 },
      { shard: 1, index: 6 },
    ],
  )
  const ids = (await readAll(await openSource(out))).map((sample) =>
    isBroken(sample) ? 'broken' : sample.id,
  )
  t.deepEqual(
    ids,
    [0, 1, 2, 3, 6, 7, 9, 10, 12].map((i) => `${i < 7 ? 'a' : 'b'}.tar/${i}`),
  )
  t.deepEqual(progress.at(-1), [9, 1])
  t.true(
    progress.every(
      ([done, share], i) => i === 0 || (done >= progress[i - 1]![0] && share >= progress[i - 1]![1]),
    ),
  )
})

test('a tokenization that is ended anywhere goes on to the same files', async (t) => {
  const { run, folder } = await setting(t)
  const whole = join(folder, 'whole')
  await run(whole)
  const expected = await contents(whole)
  for (const end of range(1, 7)) {
    const out = join(folder, `ended-${end}`)
    let events = 0
    let isOver = false
    for (let runs = 0; !isOver && runs < 20; runs++) {
      const controller = new AbortController()
      events = 0
      const onProgress = () => {
        if (++events === end) controller.abort(new Error('ended'))
      }
      isOver = await run(out, { signal: controller.signal, onProgress }).then(
        () => true,
        (error: Error) => {
          if (error.message !== 'ended') throw error
          return false
        },
      )
      // no half file, and nothing that the index does not know but the shard in work
      t.false((await readdir(out)).some((name) => name.endsWith('.partial')))
      if (end < 3) break // the first shard never comes to its end
    }
    if (!isOver) await run(out)
    t.deepEqual(await contents(out), expected, `${end}`)
  }
  // a shard that went, with those behind it
  await rm(join(whole, 'shard-00001.jsonl'))
  await run(whole)
  t.deepEqual(await contents(whole), expected)
})

test('shards of another tokenizer, other rules or other options are refused', async (t) => {
  const { run, folder, tokenizer } = await setting(t)
  const out = join(folder, 'out')
  await run(out)
  const differs = (message: RegExp) => ({ ...invalid, message })
  await t.throwsAsync(run(out, { rules: [] }), differs(/differs in the rules \(\{"characters"/))
  await t.throwsAsync(run(out, { fit: 'fill' }), differs(/the fit \(cover\)/))
  await t.throwsAsync(run(out, { shardSize: 4 }), differs(/the shard size \(3\)/))
  const other = join(folder, 'other')
  const another = await ImageTokenizer.create(tokenizer.config, { seed: 99 })
  await another.save(other)
  await another.dispose()
  await t.throwsAsync(run(out, { tokenizerFolder: other }), differs(/differs in the image tokenizer/))
})

test('nothing that stays is an error that says what left it out', async (t) => {
  const { run, folder, source } = await setting(t)
  const none = { name: 'none', settings: {}, needs: 'captions', allows: () => false } as const
  await t.throwsAsync(run(join(folder, 'a'), { rules: [none] }), {
    ...invalid,
    message: /of 13 none does: 0 are broken, and dropped were by none 13/,
  })
  await t.throwsAsync(run(join(folder, 'b'), { onBroken: 'throw' }), {
    ...invalid,
    message: /a\.tar\/4 is broken/,
  })
  await t.throwsAsync(run(join(folder, 'c'), { rule: [] } as never), { ...invalid, message: /"rule"/ })
  await t.throwsAsync(run(join(folder, 'd'), { rules: 'words' as never }), {
    ...invalid,
    message: /for rules/,
  })
  t.is(source.shards, 2)
})
