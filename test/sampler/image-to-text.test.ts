import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { writeFile } from 'node:fs/promises'
import test from 'ava'
import {
  encodePng,
  type ImageInput,
  type ImageToTextOptions,
  pixelsToTensor,
  type ProgressEvent,
  Sampler,
  type Task,
  TextTokenizer,
} from '../../lib/index.ts'
import { refuses, temporaryFolder } from '../model/helpers.ts'
import { picture, tinyBundle } from './bundle.ts'

test('beams: the best first, each with the log-probability that the full forward gives', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const { generator, imageTokenizer, textTokenizer } = sampler.model
  const texts = await sampler.imageToText(picture(1), { beams: 8, count: 5 })
  t.is(texts.length, 5)
  t.is(new Set(texts.map(({ tokens }) => tokens.join())).size, 5)
  texts.forEach((text, i) => {
    if (i > 0) t.true(text.logProbability <= texts[i - 1]!.logProbability)
    t.is(text.text, textTokenizer.decode(text.tokens))
    for (const id of text.tokens) t.true(id >= 5, 'no special token is drawn')
  })
  const wide = await sampler.imageToText(picture(1), { beams: 32 })
  t.true(wide[0]!.logProbability >= texts[0]!.logProbability - 1e-9)
  const { indices } = await imageTokenizer.encode(pixelsToTensor(picture(1)))
  t.is(indices.length, generator.config.grid ** 2)
})

test('beams are as many as count needs; a count alone is enough', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  t.is((await sampler.imageToText(picture(1))).length, 1)
  t.is((await sampler.imageToText(picture(1), { count: 6 })).length, 6)
  const four = await sampler.imageToText(picture(1), { beams: 4 })
  t.deepEqual(await sampler.imageToText(picture(1)), four)
})

test('greedy is one beam of width 1', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  for (const number of [1, 2, 3]) {
    const [greedy] = await sampler.imageToText(picture(number), { temperature: 0 })
    const [beam] = await sampler.imageToText(picture(number), { beams: 1 })
    t.deepEqual(greedy!.tokens, beam!.tokens)
    t.true(Math.abs(greedy!.logProbability - beam!.logProbability) < 1e-4)
  }
})

test('sampling: a seed gives the same texts, whatever the count; another one others', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const eight = await sampler.imageToText(picture(1), { seed: 5, count: 8 })
  t.is(eight.length, 8)
  t.true(new Set(eight.map(({ text }) => text)).size > 2)
  t.deepEqual(await sampler.imageToText(picture(1), { seed: 5, count: 3 }), eight.slice(0, 3))
  t.notDeepEqual(await sampler.imageToText(picture(1), { seed: 6, count: 8 }), eight)
})

test('a text that fills the text length is not ended', async (t) => {
  const model = await tinyBundle(t, { generator: { textLength: 4 } })
  const texts = await new Sampler(model).imageToText(picture(1), { seed: 5, count: 16 })
  t.true(texts.some(({ ended }) => !ended))
  for (const { ended, tokens } of texts) t.true(ended ? tokens.length <= 3 : tokens.length === 3)
})

const everyWay: ImageToTextOptions[] = [
  {},
  { beams: 1 },
  { beams: 8, count: 5, lengthPenalty: 1 },
  { temperature: 0 },
  { seed: 1, count: 8 },
  { seed: 1, topK: 1 },
]

test('a model that would rather say nothing says something', async (t) => {
  const sepId = 3
  const sampler = new Sampler(await tinyBundle(t, { likely: { [sepId]: 30 } }))
  t.is(sampler.model.textTokenizer.sepId, sepId)
  for (const options of everyWay) {
    const texts = await sampler.imageToText(picture(1), options)
    t.is(texts.length, options.count ?? 1)
    for (const { text, tokens, ended } of texts) t.true(text !== '' && tokens.length === 1 && ended, text)
  }
})

test('no token is drawn that shows in no text, however likely', async (t) => {
  const path = join(await temporaryFolder(t), 'tokenizer.json')
  const special = [...['[PAD]', '[UNK]', '[CLS]', '[SEP]'].entries(), [9, '<odd>'] as const]
  const json = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map(([id, content]) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    // 6 is nobody's
    model: { type: 'WordPiece', unk_token: '[UNK]', vocab: { 红: 4, 苹: 5, 果: 7, 叶: 8 } },
  }
  await writeFile(path, JSON.stringify(json))
  const textTokenizer = await TextTokenizer.load(path)
  t.is(textTokenizer.vocabSize, 10)
  t.is(textTokenizer.tokenOf(6), undefined)
  const likely = Object.fromEntries([0, 1, 2, 6, 9].map((id) => [id, 30]))
  const sampler = new Sampler(await tinyBundle(t, { textTokenizer, likely }))
  for (const options of everyWay) {
    for (const { text, tokens } of await sampler.imageToText(picture(1), options)) {
      t.regex(text, /^[红苹果叶]+$/)
      t.true(tokens.every((id) => [4, 5, 7, 8].includes(id)))
    }
  }
})

test('a picture comes as pixels, file, path or URL, of any size', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const expected = await sampler.imageToText(picture(4))
  const png = await encodePng(picture(4))
  const path = join(await temporaryFolder(t), 'picture.png')
  await writeFile(path, png)
  // a view with an offset into its buffer
  const shifted = new Uint8Array(png.length + 5)
  shifted.set(png, 5)
  for (const input of [png, path, pathToFileURL(path), shifted.subarray(5)] as ImageInput[]) {
    t.deepEqual(await sampler.imageToText(input), expected)
  }
  const strip = { pixels: new Uint8Array(20_000 * 10 * 3), width: 20_000, height: 10 }
  t.is((await sampler.imageToText(strip)).length, 1)
  t.is((await sampler.imageToText({ pixels: new Uint8Array(3), width: 1, height: 1 })).length, 1)
})

test('what is no picture is refused, and the next call works', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const png = await encodePng(picture(4, 64))
  for (const input of [
    png.subarray(0, png.length / 2),
    Buffer.from('no picture'),
    new Uint8Array(0),
    { pixels: new Uint8Array(5), width: 1, height: 1 },
    42,
    null,
    undefined,
  ] as ImageInput[]) {
    const error = await t.throwsAsync(sampler.imageToText(input))
    t.regex((error as { code?: string }).code!, /INVALID_ARGUMENT|SHAPE_MISMATCH/)
  }
  await refuses(t, sampler.imageToText('/no/such/file.png'), 'ERR_VILG_IO', 'file.png')
  t.is((await sampler.imageToText(png)).length, 1)
})

test('progress: the picture is encoded, then text is drawn', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const events: ProgressEvent[] = []
  await sampler.imageToText(picture(1), { onProgress: (event) => events.push(event) })
  t.deepEqual(events[0], { phase: 'encode', fraction: 1 })
  const decode = events.slice(1)
  t.true(decode.length > 0 && decode.every(({ phase }) => phase === 'decode'))
  t.is(decode.at(-1)!.fraction, 1)
  decode.forEach(({ fraction }, i) => t.true(fraction > 0 && fraction >= (decode[i - 1]?.fraction ?? 0)))
  const reason = new Error('stop it')
  const onProgress = () => {
    throw reason
  }
  t.is(await t.throwsAsync(sampler.imageToText(picture(1), { onProgress })), reason)
})

test('options out of range, that exclude each other or unknown are refused by name', async (t) => {
  const sampler = new Sampler(await tinyBundle(t))
  const bad: [string, Record<string, unknown>][] = [
    ['count', { count: 0 }],
    ['count', { count: 65 }],
    ['beams', { count: 3, beams: 2 }],
    ['beams', { beams: 65 }],
    ['beams', { beams: NaN }],
    ['lengthPenalty', { lengthPenalty: NaN }],
    ['lengthPenalty', { lengthPenalty: 11 }],
    ['temperature', { temperature: 1, beams: 2 }],
    ['seed', { seed: 1, lengthPenalty: 1 }],
    ['topP', { topP: NaN }],
    ['"best"', { best: 1 }],
  ]
  for (const [name, options] of bad) {
    const call = sampler.imageToText(picture(1), options as ImageToTextOptions)
    await refuses(t, call, 'ERR_VILG_INVALID_ARGUMENT', name)
  }
})

const answers = { trainedFor: ['visual-question-answering'] as Task[] }

test('an answer is what comes most likely after the question', async (t) => {
  const model = await tinyBundle(t, answers)
  const { generator, imageTokenizer, textTokenizer } = model
  const { sepId, clsId, padId } = textTokenizer
  const { textLength } = generator.config
  const question = '苹果红'
  const asked = [...textTokenizer.encode(question).ids]
  t.deepEqual([asked[0], asked.at(-1)], [clsId, sepId])
  const [best, ...others] = await new Sampler(model).answer(picture(1), question, { beams: 32, count: 3 })
  t.is(others.length, 2)
  t.is(best!.text, textTokenizer.decode(best!.tokens))
  // by the full forward, over the tokens that may come
  const { indices } = await imageTokenizer.encode(pixelsToTensor(picture(1)))
  const silent = new Set(textTokenizer.silentIds)
  const probability = async (tokens: readonly number[]) => {
    const text = new Int32Array(textLength).fill(padId)
    text.set([...asked, ...tokens].slice(0, textLength))
    const textValid = Uint8Array.from(text, (_, i) => Number(i < asked.length + tokens.length))
    const { logits } = await generator.forward(
      { text, textValid, image: indices },
      { direction: 'image-to-text' },
    )
    let sum = 0
    tokens.forEach((token, i) => {
      const row = logits.subarray((asked.length - 1 + i) * 17, (asked.length + i) * 17)
      const may = [...row.keys()].filter((id) => !silent.has(id) || (id === sepId && i > 0))
      const normalizer = Math.log(may.reduce((total, id) => total + Math.exp(row[id]!), 0))
      sum += row[token]! - normalizer
    })
    return sum
  }
  t.is(generator.config.textVocab, 17)
  for (const { tokens, ended, logProbability } of [best!, ...others]) {
    const expected = await probability([...tokens, ...(ended ? [sepId] : [])])
    t.true(Math.abs(logProbability - expected) < 1e-4 * Math.max(1, Math.abs(expected)))
  }
  // the question matters
  const [other] = await new Sampler(model).answer(picture(1), '狗', { beams: 32 })
  t.not(other!.logProbability, best!.logProbability)
})

test('questions that cannot be answered', async (t) => {
  const sampler = new Sampler(await tinyBundle(t, answers))
  await refuses(t, sampler.answer(picture(1), ''), 'ERR_VILG_INVALID_ARGUMENT', 'question')
  await refuses(t, sampler.answer(picture(1), 3 as never), 'ERR_VILG_INVALID_ARGUMENT', 'question')
  // of ten tokens, CLS, SEP and one of the answer take three
  t.is((await sampler.answer(picture(1), '红绿蓝苹果叶子', { temperature: 0 }))[0]!.tokens.length, 1)
  await refuses(
    t,
    sampler.answer(picture(1), '红绿蓝苹果叶子大'),
    'ERR_VILG_INVALID_ARGUMENT',
    'at most 7 tokens, not 8',
  )
  await refuses(
    t,
    sampler.answer(picture(1), '红', { best: 1 } as never),
    'ERR_VILG_INVALID_ARGUMENT',
    'answer options',
  )
  const describer = new Sampler(await tinyBundle(t, { trainedFor: ['image-to-text'] }))
  await refuses(t, describer.answer(picture(1), '红'), 'ERR_VILG_UNSUPPORTED', 'visual-question-answering')
})
