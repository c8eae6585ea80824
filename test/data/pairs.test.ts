import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { encodePng } from '../../lib/data/image.ts'
import {
  folderPairs,
  type ImageTextPair,
  memoryPairs,
  type PairSource,
  shufflePairs,
  splitPairs,
} from '../../lib/data/pairs.ts'
import { eachInParallel } from '../../lib/data/parallel.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }

async function tempFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-pairs-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

function png(value: number): Promise<Buffer> {
  return encodePng({ pixels: new Uint8Array(8 * 8 * 3).fill(value), width: 8, height: 8 })
}

function numbered(count: number) {
  return memoryPairs(
    Array.from({ length: count }, (_, i): ImageTextPair => {
      return { id: String(i), captions: [`${i}`], pixels: new Uint8Array(3), width: 1, height: 1 }
    }),
  )
}

test('pictures with a text file beside them', async (t) => {
  const folder = await tempFolder(t)
  await mkdir(join(folder, 'sub'))
  await writeFile(join(folder, 'b.png'), await png(20))
  await writeFile(join(folder, 'b.txt'), '\ufeff一只猫\r\n\r\n 猫 \n一只猫\n')
  await writeFile(join(folder, 'sub', 'a.PNG'), await png(10))
  await writeFile(join(folder, 'sub', 'a.txt'), 'a dog')
  await writeFile(join(folder, 'no-text.png'), await png(30))
  await writeFile(join(folder, 'blank.png'), await png(30))
  await writeFile(join(folder, 'blank.txt'), ' \n')
  await writeFile(join(folder, 'broken.png'), (await png(30)).subarray(0, 60))
  await writeFile(join(folder, 'broken.txt'), 'broken')
  await writeFile(join(folder, 'notes.md'), 'no picture')
  for (const maxBytes of [undefined, 0, 200]) {
    const { source, report } = await folderPairs(folder, { size: 8, maxBytes })
    t.is(source.length, 2)
    t.deepEqual(await source.read(0), {
      id: 'b.png',
      captions: ['一只猫', '猫'],
      pixels: new Uint8Array(192).fill(20),
      width: 8,
      height: 8,
    })
    const second = await source.read(1)
    t.is(second.id, 'sub/a.PNG')
    t.is(second.pixels[0], 10)
    t.is(report.valid, 2)
    t.is(report.skipped, 3)
    t.deepEqual(
      report.problems.map(({ file }) => file),
      ['blank.png', 'broken.png', 'no-text.png'],
    )
    for (const { reason } of report.problems) t.true(reason.length > 5)
    await t.throwsAsync(source.read(2), invalid)
  }
})

test('pictures listed in captions.jsonl', async (t) => {
  const folder = await tempFolder(t)
  await mkdir(join(folder, 'x'))
  await writeFile(join(folder, 'x', '1.png'), await png(1))
  await writeFile(join(folder, '2.png'), await png(2))
  const lines = [
    { file: 'x/1.png', text: 'one' },
    { file: './2.png', texts: ['two', 'zwei'] },
    { file: 'x/1.png', text: 'uno' },
    { file: 'gone.png', text: 'gone' },
    { file: '../outside.png', text: 'outside' },
    { file: join(folder, '2.png'), text: 'absolute' },
    { file: '2.png', texts: 'not an array' },
    { file: '2.png' },
    { text: 'no file' },
    null,
  ].map((line) => JSON.stringify(line))
  await writeFile(join(folder, 'captions.jsonl'), [...lines, '{"file": ', ''].join('\n'))
  const { source, report } = await folderPairs(folder, { size: 8 })
  t.is(source.length, 2)
  t.deepEqual((await source.read(0)).captions, ['one', 'uno'])
  t.deepEqual((await source.read(1)).captions, ['two', 'zwei'])
  t.is((await source.read(1)).id, '2.png')
  t.is(report.skipped, 8)
  t.deepEqual(
    report.problems.map(({ file }) => file),
    [10, 11, 5, 6, 7, 8, 9].map((line) => `captions.jsonl:${line}`).concat('gone.png'),
  )
})

test('pictures of a list anywhere', async (t) => {
  const folder = await tempFolder(t)
  await writeFile(join(folder, '1.png'), await png(1))
  await writeFile(join(folder, 'list.csv'), 'file,text\n1.png,one\n2.png,two\n')
  const { source, report } = await folderPairs(join(folder, 'list.csv'), { size: 8 })
  t.is((await source.read(0)).pixels[0], 1)
  t.deepEqual(
    report.problems.map(({ file }) => file),
    ['2.png'],
  )
})

test('nothing usable is an error that says why', async (t) => {
  const folder = await tempFolder(t)
  await t.throwsAsync(folderPairs(folder, { size: 8 }), { ...invalid, message: /has no pictures/ })
  await writeFile(join(folder, 'a.png'), 'nonsense')
  await writeFile(join(folder, 'a.txt'), 'a')
  await t.throwsAsync(folderPairs(folder, { size: 8 }), { ...invalid, message: /1 are unusable \(a\.png/ })
  await t.throwsAsync(folderPairs(join(folder, 'none'), { size: 8 }), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(folderPairs(folder, { size: 0 }), invalid)
  await t.throwsAsync(folderPairs(folder, { size: 8, fit: 'crop' as never }), {
    ...invalid,
    message: /for fit/,
  })
  await t.throwsAsync(folderPairs(folder, { size: 8, shuffle: true } as never), invalid)
  t.throws(() => memoryPairs([]), invalid)
})

test('every epoch gives all pairs once, in an order of its own', async (t) => {
  const epochs: string[][] = [[], [], []]
  for await (const { pair, position, epoch } of shufflePairs(numbered(20), { seed: 4, epochs: 3 })) {
    t.is(position, epoch * 20 + epochs[epoch]!.length)
    epochs[epoch]!.push(pair.id)
  }
  for (const ids of epochs)
    t.deepEqual(
      [...ids].sort((a, b) => +a - +b),
      [...Array(20).keys()].map(String),
    )
  t.notDeepEqual(epochs[0], epochs[1])
  t.notDeepEqual(epochs[0], [...Array(20).keys()].map(String))
})

test('a stream that starts later goes on as the uninterrupted one', async (t) => {
  const ids = async (start: number) => {
    const list: string[] = []
    for await (const { pair, position } of shufflePairs(numbered(7), { seed: 9, epochs: 4, start })) {
      list.push(`${position}:${pair.id}`)
    }
    return list
  }
  const whole = await ids(0)
  t.is(whole.length, 28)
  for (const start of [1, 6, 7, 13, 27, 28, 40]) t.deepEqual(await ids(start), whole.slice(start))
})

test('a stream without epochs does not end', async (t) => {
  let count = 0
  for await (const { epoch } of shufflePairs(numbered(3), { seed: 0 })) {
    t.is(epoch, Math.floor(count / 3))
    if (++count === 100) break
  }
  t.is(count, 100)
  await t.throwsAsync(shufflePairs(numbered(3), { seed: -1 }).next(), invalid)
  await t.throwsAsync(shufflePairs(numbered(3), { seed: 1, epoch: 1 } as never).next(), invalid)
})

test('eachInParallel runs four at a time and stops at the first error', async (t) => {
  let running = 0
  let most = 0
  const done: number[] = []
  await eachInParallel([...Array(10).keys()], async (item, index) => {
    t.is(item, index)
    most = Math.max(most, ++running)
    await new Promise((resolve) => setTimeout(resolve, 1))
    running--
    done.push(item)
  })
  t.is(most, 4)
  t.is(done.length, 10)
  let begun = 0
  const failing = eachInParallel([...Array(100).keys()], async (item) => {
    begun++
    await new Promise((resolve) => setTimeout(resolve, 1))
    if (item === 2) throw new Error('third')
  })
  await t.throwsAsync(failing, { message: 'third' })
  t.true(begun < 10)
})

test('splitting: every pair is in one part, in order; the same for the same seed', async (t) => {
  const pairs = Array.from({ length: 40 }, (_, i) => ({
    id: String(i),
    captions: [`c${i}`],
    pixels: Uint8Array.of(i, i, i),
    width: 1,
    height: 1,
  }))
  const ids = (part: PairSource) => Array.from({ length: part.length }, (_, i) => Number(part.describe(i).id))
  const { train, heldOut } = splitPairs(memoryPairs(pairs), { share: 0.1, seed: 1 })
  t.is(heldOut.length, 4)
  const all = [...ids(train), ...ids(heldOut)]
  t.deepEqual(
    all.sort((a, b) => a - b),
    pairs.map((_, i) => i),
  )
  for (const part of [train, heldOut]) {
    t.deepEqual(
      ids(part),
      ids(part).sort((a, b) => a - b),
    )
    for (let i = 0; i < part.length; i++) {
      const { id, pixels, captions } = await part.read(i)
      t.deepEqual({ id, captions }, { id: part.describe(i).id, captions: [...part.describe(i).captions] })
      t.is(pixels[0], Number(id))
    }
  }
  t.deepEqual(ids(splitPairs(memoryPairs(pairs), { share: 0.1, seed: 1 }).heldOut), ids(heldOut))
  t.notDeepEqual(ids(splitPairs(memoryPairs(pairs), { share: 0.1, seed: 2 }).heldOut), ids(heldOut))
  const some = splitPairs(memoryPairs(pairs.slice(0, 3)), { share: 1, seed: 1 })
  t.deepEqual([some.train.length, some.heldOut.length], [1, 2])
  t.is(splitPairs(memoryPairs(pairs), { share: 0, seed: 1 }).heldOut.length, 0)
  t.throws(() => train.describe(36), { code: 'ERR_VILG_INVALID_ARGUMENT' })
  t.throws(() => splitPairs(memoryPairs(pairs), { share: NaN, seed: 1 }), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
  })
})
