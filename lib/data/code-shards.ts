import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { writeSafetensors } from '../checkpoint/safetensors.ts'
import { VilgError } from '../errors.ts'
import { makeFolder } from '../make-folder.ts'
import { CONFIG_FILE, readJson, WEIGHTS_FILE } from '../model/config-file.ts'
import type { ImageTokenizer } from '../model/image-tokenizer.ts'
import { checkSignal } from '../native/call.ts'
import { readTextIfThere } from '../tokenizer/vocabulary-file.ts'
import { expectInteger, expectString, rejectUnknownKeys } from '../validate.ts'
import { pixelsToTensor, readImage, type RgbImage, writeFileWhole } from './image.ts'
import { type FolderPairsReport, type FolderSample, folderSamples } from './pairs.ts'
import { eachInParallel } from './parallel.ts'

/** One shard of codes. Its tensor `image` is I32, count x n; the lines of its `.jsonl` are `{ id, captions }`, a row each. */
export interface CodeShard {
  /** Names of its two files. */
  codes: string
  captions: string
  /** Pictures in it. */
  count: number
  /** Pictures that could not be read, and why. */
  skipped: FolderPairsReport['problems']
}

/** The file `index.json` of a folder of shards. */
export interface CodeIndex {
  format: 'ernie-vilg-codes'
  version: 1
  /** What the codes are of: only an image tokenizer with this fingerprint turns them back. */
  model: { fingerprint: string; resolution: number; grid: number; codebookSize: number }
  /** Digest of the list of pictures and captions. */
  source: string
  pictures: number
  shardSize: number
  /** In order; fewer than there will be until `complete`. */
  shards: CodeShard[]
  /** Pictures that have no caption. */
  problems: FolderPairsReport['problems']
  complete: boolean
}

/** Options of {@link tokenizeFolder}. */
export interface TokenizeFolderOptions {
  /** The folder that the image tokenizer was loaded from, for its fingerprint. */
  tokenizerFolder: string
  /** Pictures a shard; 4096 unless given. */
  shardSize?: number
  /** Pictures the tokenizer encodes at once; 16 unless given. */
  batch?: number
  signal?: AbortSignal
  /** Called with pictures done and in total, those of earlier runs included. */
  onProgress?: (done: number, total: number) => void
}

const indexFile = 'index.json'

/**
 * Turns a folder of pictures with captions (as {@link folderPairs} takes it) into shards of codes. Pictures that cannot be read are left
 * out and listed. Every file appears whole or not at all, and the index after its shards, so a run that was ended goes on with the
 * first shard that is missing.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT where `out` holds shards of other pictures, another tokenizer or shard size, or where no picture can
 *   be used; ERR_VILG_IO
 */
export async function tokenizeFolder(
  tokenizer: ImageTokenizer,
  folder: string,
  out: string,
  options: TokenizeFolderOptions,
): Promise<CodeIndex> {
  rejectUnknownKeys('tokenizeFolder options', options, [
    'tokenizerFolder',
    'shardSize',
    'batch',
    'signal',
    'onProgress',
  ])
  const shardSize = expectInteger('shardSize', options.shardSize ?? 4096, { min: 1, max: 2 ** 20 })
  const batch = expectInteger('batch', options.batch ?? 16, { min: 1, max: 4096 })
  const { signal, onProgress } = options
  checkSignal(signal)
  expectString('out', out)
  const { samples, problems } = await folderSamples(folder)
  const { resolution, codebookSize } = tokenizer.config
  const begun: CodeIndex = {
    format: 'ernie-vilg-codes',
    version: 1,
    model: {
      fingerprint: await tokenizerFingerprint(options.tokenizerFolder),
      resolution,
      grid: tokenizer.grid,
      codebookSize,
    },
    source: createHash('sha256').update(JSON.stringify(samples)).digest('hex'),
    pictures: samples.length,
    shardSize,
    shards: [],
    problems,
    complete: false,
  }
  await makeFolder(out)
  const index = (await readIndex(out, begun)) ?? begun
  let done = Math.min(index.shards.length * shardSize, samples.length)
  if (done > 0) onProgress?.(done, samples.length)
  while (done < samples.length) {
    const part = samples.slice(done, done + shardSize)
    const number = index.shards.length
    const report = (more: number) => onProgress?.(done + more, samples.length)
    index.shards.push(await writeShard({ tokenizer, folder, out, batch, signal, report }, number, part))
    done += part.length
    await writeIndex(out, index)
  }
  if (index.shards.every(({ count }) => count === 0)) throw nothingUsable(folder, index)
  index.complete = true
  await writeIndex(out, index)
  return index
}

/** SHA-256 of an image tokenizer's configuration and weights, in hexadecimal. */
export async function tokenizerFingerprint(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of [CONFIG_FILE, WEIGHTS_FILE]) {
    const path = join(folder, name)
    try {
      for await (const part of createReadStream(path)) hash.update(part as Buffer)
    } catch (cause) {
      throw new VilgError(
        'ERR_VILG_IO',
        `Cannot read ${path}: ${(cause as Error).message}`,
        { path },
        { cause },
      )
    }
  }
  return hash.digest('hex')
}

interface ShardWork {
  tokenizer: ImageTokenizer
  folder: string
  out: string
  batch: number
  signal: AbortSignal | undefined
  report: (done: number) => void
}

async function writeShard(
  work: ShardWork,
  number: number,
  samples: readonly FolderSample[],
): Promise<CodeShard> {
  const { tokenizer, out, batch, signal } = work
  const n = tokenizer.grid ** 2
  const codes = new Int32Array(samples.length * n)
  const lines: string[] = []
  const skipped: FolderPairsReport['problems'] = []
  for (let first = 0; first < samples.length; first += batch) {
    signal?.throwIfAborted()
    const part = samples.slice(first, first + batch)
    const images = await readImages(work, part, skipped)
    if (images.length > 0) {
      const tensor = pixelsToTensor(images.map(({ image }) => image))
      const { indices } = await tokenizer.encode(tensor, { count: images.length, signal })
      codes.set(indices, lines.length * n)
      for (const { sample } of images)
        lines.push(JSON.stringify({ id: sample.file, captions: sample.captions }))
    }
    work.report(first + part.length)
  }
  const stem = `shard-${String(number).padStart(5, '0')}`
  const shard = { codes: `${stem}.safetensors`, captions: `${stem}.jsonl`, count: lines.length, skipped }
  await writeFileWhole(join(out, shard.captions), Buffer.from(lines.map((line) => `${line}\n`).join('')))
  const data = codes.slice(0, lines.length * n)
  const image = { name: 'image', dtype: 'I32', shape: [lines.length, n], data } as const
  await writeSafetensors(join(out, shard.codes), [image], { ...(signal ? { signal } : {}) })
  return shard
}

async function readImages(
  { folder, tokenizer }: ShardWork,
  samples: readonly FolderSample[],
  skipped: FolderPairsReport['problems'],
) {
  const { resolution: size } = tokenizer.config
  const read: ({ sample: FolderSample; image: RgbImage } | undefined)[] = []
  const failed: (FolderPairsReport['problems'][number] | undefined)[] = []
  await eachInParallel(samples, async (sample, i) => {
    try {
      read[i] = { sample, image: await readImage(join(folder, sample.file), { size }) }
    } catch (error) {
      const isBadFile =
        error instanceof VilgError &&
        (error.code === 'ERR_VILG_INVALID_ARGUMENT' || error.code === 'ERR_VILG_IO')
      if (!isBadFile) throw error
      failed[i] = { file: sample.file, reason: error.message }
    }
  })
  skipped.push(...failed.filter((problem) => problem !== undefined))
  return read.filter((entry) => entry !== undefined)
}

/** The index of earlier runs; undefined where there is none. */
async function readIndex(out: string, begun: CodeIndex): Promise<CodeIndex | undefined> {
  const path = join(out, indexFile)
  if ((await readTextIfThere(path)) === undefined) return undefined
  const index = (await readJson(path, `Expected ${path}`)) as unknown as CodeIndex
  if (index.format !== begun.format || index.version !== begun.version || !Array.isArray(index.shards)) {
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', `Expected the index of a folder of codes in ${path}`, {
      path,
    })
  }
  const differing = [
    ...(index.model?.fingerprint === begun.model.fingerprint ? [] : ['the image tokenizer']),
    ...(index.source === begun.source ? [] : ['the pictures or captions']),
    ...(index.shardSize === begun.shardSize ? [] : [`the shard size (${index.shardSize})`]),
  ]
  if (differing.length > 0) {
    const text = `Expected ${out} to be empty or begun with the same input, and it differs in ${differing.join(' and ')}. Give another folder`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path: out, differing })
  }
  // shards whose files went are made again, and those behind them
  const whole = await Promise.all(
    index.shards.map(async ({ codes, captions }) => {
      const files = [codes, captions].map((name) => stat(join(out, name)).catch(() => undefined))
      return (await Promise.all(files)).every((file) => file?.isFile() === true)
    }),
  )
  const first = whole.indexOf(false)
  return first < 0 ? index : { ...index, shards: index.shards.slice(0, first), complete: false }
}

async function writeIndex(out: string, index: CodeIndex): Promise<void> {
  await writeFileWhole(join(out, indexFile), Buffer.from(`${JSON.stringify(index, null, 2)}\n`))
}

function nothingUsable(folder: string, { problems, shards }: CodeIndex): VilgError {
  const all = [...problems, ...shards.flatMap(({ skipped }) => skipped)]
  const shown = all.slice(0, 3).map(({ file, reason }) => `${file}: ${reason}`)
  const found =
    all.length === 0 ? 'it has no pictures' : `none of ${all.length} can be used (${shown.join('; ')})`
  const text = `Expected pictures with captions in ${folder}, and ${found}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { folder, problems: all })
}
