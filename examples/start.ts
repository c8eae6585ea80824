// What the library is for, in one command: draws Chinese prompts, describes pictures, writes a sheet and a page. npm start -- --help
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { SingleBar } from 'cli-progress'
import { Command, InvalidArgumentError } from 'commander'
import {
  backendInfo,
  contactSheet,
  ErnieVilg,
  folderPairs,
  interruptible,
  InterruptedError,
  Sampler,
  VilgError,
} from '../lib/index.ts'
import { type Description, type Drawing, pageOf } from './start/page.ts'
import { PROMPTS } from './start/prompts.ts'

/** Six candidates of sixteen prompts, the best of them by the model's own likelihood. */
const drawing = { count: 6, best: 6, seed: 2023, temperature: 0.7 }
const describing = { beams: 8, count: 3 }

interface Flags {
  model?: string
  count: number
  pictures: string
  out: string
}

const flags = new Command('start')
  .description('Draws Chinese prompts, describes pictures, and writes a contact sheet and a page of both.')
  .option('-m, --model <folder>', 'folder of the bundle (default: models/emoji)')
  .option('-n, --count <integer>', 'candidates of each prompt, from 2', atLeastTwo, drawing.count)
  .option('--pictures <folder>', 'pictures to describe, with captions', join(import.meta.dirname, 'pictures'))
  .option('-o, --out <folder>', 'where sheet.png and index.html go', 'out')
  .parse()
  .opts<Flags>()

function atLeastTwo(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 2 || value > 64)
    throw new InvalidArgumentError('Expected 2 to 64.')
  return value
}

const stream = process.stderr
const bar = stream.isTTY
  ? new SingleBar({ format: '{bar} {percentage}% {what}', hideCursor: null, barsize: 30, stream })
  : undefined

/** Loads the model with the faster type of products: bfloat16 halves what each token reads, where the processor can multiply it. */
async function loadModel(signal: AbortSignal): Promise<ErnieVilg> {
  const precision = /bf16/.test(backendInfo().isa) ? 'bfloat16' : 'float32'
  return ErnieVilg.load(flags.model, { precision, signal })
}

async function drawAll(sampler: Sampler, signal: AbortSignal, progress: Progress): Promise<Drawing[]> {
  const drawings: Drawing[] = []
  for (const [i, { text: prompt, isNew = false }] of PROMPTS.entries()) {
    const begun = performance.now()
    const images = await sampler.textToImage(prompt, {
      ...drawing,
      count: flags.count,
      best: flags.count, // all of them, the best first
      signal,
      onProgress: ({ phase, fraction }) =>
        progress(i + (phase === 'decode' ? 0.9 * fraction : 0.95), `画 ${prompt}`),
    })
    drawings.push({ prompt, isNew, images, seconds: secondsSince(begun) })
  }
  return drawings
}

async function describeAll(
  sampler: Sampler,
  signal: AbortSignal,
  progress: Progress,
): Promise<Description[]> {
  const { source } = await folderPairs(flags.pictures, {
    size: sampler.model.imageTokenizer.config.resolution,
  })
  const descriptions: Description[] = []
  for (let i = 0; i < source.length; i++) {
    const picture = await source.read(i)
    const begun = performance.now()
    const texts = await sampler.imageToText(picture, { ...describing, signal })
    const png = await readFile(join(flags.pictures, picture.id))
    descriptions.push({ name: picture.captions[0]!, png, texts, seconds: secondsSince(begun) })
    progress(PROMPTS.length + (i + 1) / source.length, `说 ${texts[0]!.text}`)
  }
  return descriptions
}
type Progress = (done: number, what: string) => void

/** The best picture of each prompt, a tile each; returns the prompts that the tiles have numbers for, where they have. */
async function writeSheet(path: string, drawings: readonly Drawing[]): Promise<readonly string[]> {
  const captions = drawings.map(({ prompt }) => prompt)
  const images = drawings.map(({ images: [best] }) => best!)
  const { png, numbered } = await contactSheet(images, { columns: 4, tileSize: 192, captions, padding: 12 })
  await writeFile(path, png)
  return numbered ? captions : []
}

function factsOf(
  model: ErnieVilg,
  seconds: Record<'load' | 'draw' | 'describe', number>,
): [string, string][] {
  const { generator, imageTokenizer, textTokenizer } = model
  const { layers, hidden, heads, grid, textLength } = generator.config
  const { resolution, codebookSize } = imageTokenizer.config
  const { isa, threads } = backendInfo()
  const pictures = PROMPTS.length * flags.count
  return [
    ['模型', `${model.name}：${model.description}`],
    [
      '生成器',
      `${(generator.parameterCount / 1e6).toFixed(1)} M 参数，${layers} 层，宽 ${hidden}，${heads} 头，文字 ${textLength} 个、图像 ${grid} × ${grid} 个记号`,
    ],
    [
      '图像编码器',
      `${(imageTokenizer.parameterCount / 1e6).toFixed(1)} M 参数，${resolution} × ${resolution} 像素，${codebookSize} 个码`,
    ],
    ['词表', `${textTokenizer.vocabSize} 个词元`],
    ['作画', `每条 ${flags.count} 个候选，温度 ${drawing.temperature}，种子 ${drawing.seed}`],
    [
      '设备',
      `${generator.device}，${isa}，${generator.precision}，${threads} 线程（${cpus()[0]?.model.trim() ?? '?'}，${availableParallelism()} 核）`,
    ],
    [
      '用时',
      `读取 ${seconds.load.toFixed(1)} s；画 ${pictures} 幅 ${seconds.draw.toFixed(1)} s（每幅 ${(seconds.draw / pictures).toFixed(2)} s）；描述 ${seconds.describe.toFixed(1)} s`,
    ],
  ]
}

function secondsSince(begun: number): number {
  return (performance.now() - begun) / 1000
}

async function main(signal: AbortSignal): Promise<void> {
  const out = resolve(flags.out)
  await mkdir(out, { recursive: true })
  const begun = performance.now()
  await using model = await loadModel(signal)
  const load = secondsSince(begun)
  const sampler = new Sampler(model)
  const total = PROMPTS.length + 1
  bar?.start(1000, 0, { what: '' })
  const progress: Progress = (done, what) => bar?.update(Math.round((1000 * done) / total), { what })
  const drawingBegun = performance.now()
  const drawings = await drawAll(sampler, signal, progress)
  const draw = secondsSince(drawingBegun)
  const describingBegun = performance.now()
  const descriptions = await describeAll(sampler, signal, progress)
  const describe = secondsSince(describingBegun)
  bar?.stop()

  const sheet = join(out, 'sheet.png')
  const page = join(out, 'index.html')
  const numbered = await writeSheet(sheet, drawings)
  const facts = factsOf(model, { load, draw, describe })
  await writeFile(page, await pageOf({ drawings, descriptions, facts }))

  for (const { name, texts } of descriptions) console.log(`${name}: ${texts[0]!.text}`)
  numbered.forEach((prompt, i) => console.log(`tile ${i + 1}: ${prompt}`))
  const pictures = drawings.length * flags.count
  console.log(
    `\n${pictures} pictures drawn in ${draw.toFixed(1)} s, ${descriptions.length} described in ${describe.toFixed(1)} s`,
  )
  console.log(`sheet: ${relative('', sheet)}`)
  console.log(`page:  ${relative('', page)} (${pathToFileURL(page).href})`)
}

try {
  await interruptible(main)
} catch (error) {
  bar?.stop()
  if (error instanceof InterruptedError) process.exitCode = 130
  else if (error instanceof VilgError) {
    console.error(`error: ${error.message} (${error.code})`)
    process.exitCode = 1
  } else throw error
}
