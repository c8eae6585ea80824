import { copyFile, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { encodePng, ErnieVilg, readImage, SafetensorsFile, Sampler } from '../../lib/index.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { picture } from '../sampler/bundle.ts'
import { cli, cliJson, pictureFolder, savedBundle, smallTraining } from './helpers.ts'

interface Images {
  images: {
    prompt: string
    file: string
    seed: number
    candidate: number
    width: number
    height: number
    logProbability: number
    score?: number
  }[]
  sheet?: string
}

test('generate writes what the sampler draws', async (t) => {
  const model = await savedBundle(t)
  const out = await temporaryFolder(t)
  const args = ['generate', '红苹果', '--model', model, '--seed', '7', '--temperature', '0.9', '--out', out]
  const { images } = (await cliJson(t, args)) as unknown as Images
  await using loaded = await ErnieVilg.load(model)
  const [expected] = await new Sampler(loaded).textToImage('红苹果', { seed: 7, temperature: 0.9 })
  t.deepEqual(images, [
    {
      prompt: '红苹果',
      file: join(out, '红苹果.png'),
      width: 8,
      height: 8,
      seed: 7,
      candidate: 0,
      logProbability: expected!.logProbability,
    },
  ])
  t.deepEqual(await readFile(images[0]!.file), await expected!.png())
  const text = await cli(args)
  t.is(text.code, 0)
  t.regex(text.stdout, /红苹果\.png .*seed 7/)
  t.is(text.stderr, '', 'no bar where there is no terminal')
})

test('generate: several prompts, candidates, a sheet, enlarged files', async (t) => {
  const model = await savedBundle(t)
  const out = join(await temporaryFolder(t), 'new')
  const sheet = join(out, 'sheet.png')
  const { images, ...rest } = (await cliJson(t, [
    ...['generate', '红苹果', '绿/叶子', '--model', model, '--count', '5', '--best', '2', '--scale', '3'],
    ...['--out', out, '--sheet', sheet],
  ])) as unknown as Images
  t.is(rest.sheet, sheet)
  t.deepEqual(
    images.map(({ file }) => file.slice(out.length + 1)),
    ['红苹果-1.png', '红苹果-2.png', '绿_叶子-1.png', '绿_叶子-2.png'],
  )
  for (const [a, b] of [images.slice(0, 2), images.slice(2)]) t.true(a!.score! >= b!.score!)
  t.deepEqual(
    (await readdir(out)).sort(),
    [...images.map(({ file }) => file.slice(out.length + 1)), 'sheet.png'].sort(),
  )
  const { pixels } = await readImage(images[0]!.file, { size: 24 })
  t.deepEqual(pixels.slice(0, 3), pixels.slice(6, 9))
})

test('generate: prompts from a file and from standard input; the same prompt twice has two files', async (t) => {
  const model = await savedBundle(t)
  const out = await temporaryFolder(t)
  const file = join(out, 'prompts.txt')
  await writeFile(file, '\ufeff红\r\n\n 绿 \n红\n')
  const { images } = (await cliJson(t, [
    'generate',
    '--prompts',
    file,
    '--model',
    model,
    '--out',
    out,
  ])) as unknown as Images
  t.deepEqual(
    images.map((image) => [image.prompt, image.file.slice(out.length + 1)]),
    [
      ['红', '红.png'],
      ['绿', '绿.png'],
      ['红', '红 (2).png'],
    ],
  )
  const piped = await cli(['generate', '--prompts', '-', '--model', model, '--out', out], '小猫\n')
  t.is(piped.code, 0, piped.stderr)
  t.regex(piped.stdout, /小猫\.png/)
})

test('generate: a prompt that is too long is told of before anything is drawn', async (t) => {
  const model = await savedBundle(t)
  const out = join(await temporaryFolder(t), 'out')
  const args = ['generate', '红', '绿'.repeat(20), '--model', model, '--out', out]
  const { code, stdout, stderr } = await cli(args)
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /^error: prompt 2 of 2: .*20 tokens.*\(ERR_VILG_INVALID_ARGUMENT\)\n$/)
  await t.throwsAsync(readdir(out), { code: 'ENOENT' })
  t.is((await cli([...args, '--truncate'])).code, 0)
  t.is((await readdir(out)).length, 2)
})

test('caption says what the sampler says; a bad picture does not stop the others', async (t) => {
  const model = await savedBundle(t)
  const folder = await temporaryFolder(t)
  const good = join(folder, 'good.png')
  const broken = join(folder, 'broken.png')
  await writeFile(good, await encodePng(picture(2)))
  await writeFile(broken, await encodePng(picture(3, 64)))
  await truncate(broken, 100)
  const missing = join(folder, 'missing.png')
  const args = ['caption', broken, good, missing, '--model', model, '--count', '2', '--beams', '6']
  const json = await cli([...args, '--json'])
  t.is(json.code, 1)
  const { images } = JSON.parse(json.stdout) as {
    images: { file: string; texts?: object[]; error?: { code: string } }[]
  }
  await using loaded = await ErnieVilg.load(model)
  const expected = await new Sampler(loaded).imageToText(good, { count: 2, beams: 6 })
  t.deepEqual(
    images.map(({ file, error }) => [file, error?.code]),
    [
      [broken, 'ERR_VILG_INVALID_ARGUMENT'],
      [good, undefined],
      [missing, 'ERR_VILG_IO'],
    ],
  )
  t.deepEqual(
    images[1]!.texts,
    expected.map(({ text, logProbability, ended }) => ({ text, logProbability, ended })),
  )
  const text = await cli(args)
  t.is(text.code, 1)
  t.true(text.stdout.includes(expected[0]!.text))
  t.is(text.stderr.match(/^error: /gm)?.length, 2)
  t.is(
    (await cli(['caption', good, '--model', model])).stdout.split('\n')[0],
    `${good}: ${(await new Sampler(loaded).imageToText(good))[0]!.text}`,
  )
  t.is((await cli(['caption', good, '--model', model, '--seed', '3', '--top-k', '4'])).code, 0)
})

test('answer says what the sampler says, with a model that was trained to', async (t) => {
  const model = await savedBundle(t, { trainedFor: ['visual-question-answering'] })
  const file = join(await temporaryFolder(t), 'picture.png')
  await writeFile(file, await encodePng(picture(2)))
  await using loaded = await ErnieVilg.load(model)
  const sampler = new Sampler(loaded)
  const expected = await sampler.answer(file, '红?', { count: 2, beams: 6 })
  const args = ['answer', file, '红?', '--model', model, '--count', '2', '--beams', '6']
  const json = await cli([...args, '--json'])
  t.is(json.code, 0, json.stderr)
  const answers = expected.map(({ text, logProbability, ended }) => ({ text, logProbability, ended }))
  t.like(JSON.parse(json.stdout), { file, question: '红?', answers })
  t.true((await cli(args)).stdout.startsWith(`${expected[0]!.text}  (log-probability `))
  const [greedy] = await sampler.answer(file, '红?', { temperature: 0 })
  t.is((await cli([...args.slice(0, 5), '--temperature', '0'])).stdout, `${greedy!.text}\n`)
  const untrained = await cli(['answer', file, '红?', '--model', await savedBundle(t)])
  t.is(untrained.code, 1)
  t.regex(untrained.stderr, /\(ERR_VILG_UNSUPPORTED\)/)
})

test('tokenize: shards of codes, in order, with bad pictures left out; goes on where it was', async (t) => {
  const model = await savedBundle(t)
  const data = await pictureFolder(t, 11)
  await truncate(join(data, '4.png'), 50)
  await rm(join(data, '7.txt'))
  const out = await temporaryFolder(t)
  const args = ['tokenize', data, '--model', model, '--out', out, '--shard-size', '4', '--batch', '3']
  const first = await cliJson(t, args)
  t.like(first, { read: 11, kept: 9, broken: 2 })
  await using loaded = await ErnieVilg.load(model)
  const { pixelsToTensor } = await import('../../lib/index.ts')
  const ids: string[] = []
  for (const name of ['shard-00000', 'shard-00001', 'shard-00002']) {
    await using file = await SafetensorsFile.open(join(out, `${name}.safetensors`))
    const info = file.tensors.get('image')!
    t.is(info.dtype, 'I32')
    const lines = (await readFile(join(out, `${name}.jsonl`), 'utf8')).trim().split('\n')
    t.deepEqual([...info.shape], [lines.length, 16])
    const codes = await file.read('image')
    for (const [row, line] of lines.entries()) {
      const { id, captions } = JSON.parse(line) as { id: string; captions: string[] }
      ids.push(id)
      t.is(captions.length, 2)
      const image = await readImage(join(data, id), { size: 8 })
      const { indices } = await loaded.imageTokenizer.encode(pixelsToTensor(image))
      t.deepEqual(codes.slice(row * 16, (row + 1) * 16) as Int32Array, indices, id)
    }
  }
  t.deepEqual(ids, ['0.png', '1.png', '10.png', '2.png', '3.png', '5.png', '6.png', '8.png', '9.png'])

  // a run that was killed after the first shard
  const codes = await readFile(join(out, 'shard-00001.safetensors'))
  const indexPath = join(out, 'index.json')
  const index = await readFile(indexPath, 'utf8')
  await rm(join(out, 'shard-00001.safetensors'))
  t.deepEqual({ ...(await cliJson(t, args)), seconds: 0 }, { ...first, seconds: 0 })
  t.deepEqual(await readFile(join(out, 'shard-00001.safetensors')), codes)
  t.is(await readFile(indexPath, 'utf8'), index)

  // of other input, nothing is mixed in
  await writeFile(join(data, '7.txt'), '红\n')
  const { code, stderr } = await cli(args)
  t.is(code, 1)
  t.regex(stderr, /differs in the pictures or captions/)
  t.is(await readFile(indexPath, 'utf8'), index)
})

test('tokenize: rules, their counts, and what is asked of the source', async (t) => {
  const model = await savedBundle(t)
  const data = await pictureFolder(t, 6)
  await writeFile(join(data, '1.txt'), '猫🙂\n')
  await writeFile(join(data, '2.txt'), '猫🙂\n红\n')
  await copyFile(join(data, '3.png'), join(data, '5.png'))
  await truncate(join(data, '4.png'), 50)
  const out = join(await temporaryFolder(t), 'codes')
  const args = ['tokenize', data, '--model', join(model, 'image-tokenizer'), '--out', out]
  const rules = ['--rules', 'characters', 'duplicates']
  const report = await cliJson(t, [...args, ...rules])
  t.like(report, {
    read: 6,
    kept: 3,
    broken: 1,
    dropped: { characters: { samples: 1, captions: 2 }, duplicates: { samples: 1, captions: 2 } },
    rules: { characters: {}, duplicates: { of: 'picture' } },
  })
  const table = await cli([...args, ...rules])
  t.regex(table.stdout, /dropped by duplicates +1 +16\.7 % +2\n/)
  const others = await cli(args)
  t.is(others.code, 1)
  t.regex(others.stderr, /differs in the rules/)
  const strict = await cli([...args.slice(0, -1), `${out}-strict`, '--on-broken', 'throw'])
  t.is(strict.code, 1)
  t.regex(strict.stderr, /4\.png is broken/)
  const codes = await cli(['tokenize', out, ...args.slice(2, -1), `${out}-again`])
  t.regex(codes.stderr, /which has codes already/)

  for (const i of [0, 1, 2, 3, 4, 5]) await truncate(join(data, `${i}.png`), 50)
  const none = await cli([...args.slice(0, -1), `${out}-none`])
  t.is(none.code, 1)
  t.regex(none.stderr, /6 or more cannot be used.*\(ERR_VILG_INVALID_ARGUMENT\)/)
})

test('evaluate counts the same for the same seed, and writes what it prints', async (t) => {
  const model = await savedBundle(t)
  const data = await pictureFolder(t, 6)
  const out = join(await temporaryFolder(t), 'numbers.json')
  const args = ['evaluate', '--model', model, '--data', data, '--count', '4', '--out', out]
  const first = await cliJson(t, args)
  const second = await cliJson(t, args)
  t.deepEqual({ ...second, seconds: 0 }, { ...first, seconds: 0 })
  t.deepEqual(JSON.parse(await readFile(out, 'utf8')), second)
  const { data: numbers } = first as {
    data: Record<string, { count: number; correct: number; psnr: number }>
  }
  for (const name of ['drawnFromNames', 'drawnFromCaptions', 'describedByName', 'describedByCaption']) {
    t.is(numbers[name]!.count, 4)
  }
  t.true(numbers['reconstruction']!.psnr > 0)
  const table = await cli([...args, '--held-out', data])
  t.is(table.code, 0)
  t.regex(table.stdout, /data +heldOut/)
  t.regex(table.stdout, /PSNR .* dB/)
})

test('train: from a folder to a bundle that draws and describes', async (t) => {
  const data = await pictureFolder(t, 10)
  await copyFile(join(data, '1.png'), join(data, '11.png'))
  await truncate(join(data, '4.png'), 50)
  const folder = await temporaryFolder(t)
  const out = join(folder, 'model')
  const config = join(folder, 'config.json')
  await writeFile(config, JSON.stringify(smallTraining))
  const args = [
    'train',
    '--data',
    data,
    '--out',
    out,
    '--config',
    config,
    '--held-out',
    '0.2',
    '--name',
    '小模型',
  ]
  const part = await cli([...args, '--minutes', '1e-9', '--json'])
  t.is(part.code, 3, part.stderr)
  t.regex(part.stdout, /"stage":"image-tokenizer","finished":false/)
  await t.throwsAsync(readFile(join(out, 'bundle.json')), { code: 'ENOENT' })
  const { code, stdout, stderr } = await cli([...args, '--json'])
  t.is(code, 0, stderr)
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
  t.like(lines[0], { type: 'data', train: 8, isAtLeast: false, heldOut: 2, broken: { count: 1 } })
  t.regex(part.stderr, /11\.png: there is no 11\.txt beside it/)
  const tokens = lines.find(({ type, text }) => type === 'note' && String(text).startsWith('tokens:'))
  t.regex(String(tokens?.['text']), /9 pictures of .*, 2 left out \(.*11\.png.*4\.png/)
  t.deepEqual(
    lines.filter(({ type }) => type === 'stage').map(({ stage: name, finished }) => [name, finished]),
    ['vocabulary', 'image-tokenizer', 'tokens', 'generator', 'bundle'].map((name) => [name, true]),
  )
  const steps = lines.filter((line) => line['stage'] === 'generator' && line['type'] === 'step')
  t.deepEqual(
    steps.map(({ step }) => step),
    [1, 2, 3, 4],
  )
  t.like(lines.at(-1), { type: 'end', bundle: out, measurements: { generator: { steps: 4 } } })

  await using model = await ErnieVilg.load(out)
  t.is(model.name, '小模型')
  const sampler = new Sampler(model)
  t.is((await sampler.textToImage('红', { temperature: 0.5 }))[0]!.width, 16)
  t.is((await sampler.imageToText(picture(1))).length, 1)

  await writeFile(join(data, '0.txt'), '蓝\n')
  const other = await cli(args)
  t.is(other.code, 1)
  t.regex(other.stderr, /data\.sources was .*train --force.*\(ERR_VILG_INVALID_ARGUMENT\)/)
  await writeFile(config, JSON.stringify({ generator: { layers: 3 } }))
  const typo = await cli(args)
  t.is(typo.code, 1)
  t.regex(typo.stderr, /config\.generator.*unknown key "layers"/)
})
