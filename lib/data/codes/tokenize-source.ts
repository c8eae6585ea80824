import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { writeSafetensors } from '../../checkpoint/safetensors.ts'
import { VilgError } from '../../errors.ts'
import { makeFolder } from '../../make-folder.ts'
import type { ImageTokenizer } from '../../model/image-tokenizer.ts'
import { checkSignal } from '../../native/call.ts'
import { readTextIfThere } from '../../tokenizer/vocabulary-file.ts'
import { expectInteger, expectOneOf, expectString, outOfRange, rejectUnknownKeys } from '../../validate.ts'
import { FilterChain } from '../filters/filter-chain.ts'
import { addCounts, type FilterReport } from '../filters/filter-report.ts'
import type { FilterRule } from '../filters/rule.ts'
import { IMAGE_FITS, type ImageFit, pixelsToTensor, writeFileWhole } from '../image.ts'
import { BrokenSamples, type SampleSource } from '../sources/sample.ts'
import { BROKEN_POLICIES, type BrokenPolicy } from '../stream/sample-stream.ts'
import { noSamples } from '../stream/shuffled-cursor.ts'
import {
  CODE_INDEX_FILE,
  type CodeIndex,
  type CodeShard,
  readCodeIndex,
  type SourcePosition,
  writeCodeIndex,
} from './code-index.ts'
import { modelFingerprint } from '../../model/fingerprint.ts'
import { FilteredPairs } from './filtered-pairs.ts'

/** Options of {@link tokenizeSource}. */
export interface TokenizeSourceOptions {
  /** The folder that the image tokenizer was loaded from, for its fingerprint. */
  tokenizerFolder: string
  /** Pictures a shard; 4096 unless given. */
  shardSize?: number
  /** Pictures the tokenizer encodes at once; 16 unless given. */
  batch?: number
  /** How pictures that are not square become so; `cover` unless given. */
  fit?: ImageFit
  /** What samples have to pass; nothing unless given. */
  rules?: readonly FilterRule[]
  /** `skip` unless given: broken samples are left out, counted and listed. `throw` ends with the first one. */
  onBroken?: BrokenPolicy
  signal?: AbortSignal
  /** Told of pictures kept, and the share of the source that is read, from 0 to 1; those of earlier runs included. */
  onProgress?: (done: number, fraction: number) => void
}

const optionKeys = [
  'tokenizerFolder',
  'shardSize',
  'batch',
  'fit',
  'rules',
  'onBroken',
  'signal',
  'onProgress',
] as const satisfies readonly (keyof TokenizeSourceOptions)[]

/**
 * Turns pictures with captions into shards of codes, once, in the order of the source. Samples that cannot be used or do not pass the
 * rules are left out, counted and listed. Every file appears whole or not at all, and the index after its shards, so a run that was ended
 * goes on with the first shard that is missing. Rules remember what they saw: each call needs new ones.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT where `out` holds shards of other data, another tokenizer or other options, or where no picture
 *   can be used; ERR_VILG_IO
 */
export async function tokenizeSource(
  tokenizer: ImageTokenizer,
  source: SampleSource<'images'>,
  out: string,
  options: TokenizeSourceOptions,
): Promise<CodeIndex> {
  rejectUnknownKeys('tokenizeSource options', options, optionKeys)
  if (source?.kind !== 'images') throw outOfRange('source', 'a source of pictures', source?.kind)
  const shardSize = expectInteger('shardSize', options.shardSize ?? 4096, { min: 1, max: 2 ** 20 })
  const batch = expectInteger('batch', options.batch ?? 16, { min: 1, max: 4096 })
  const fit = expectOneOf('fit', options.fit ?? 'cover', IMAGE_FITS)
  const onBroken = expectOneOf('onBroken', options.onBroken ?? 'skip', BROKEN_POLICIES)
  const chain = new FilterChain(options.rules ?? [])
  const { signal, onProgress } = options
  checkSignal(signal)
  expectString('out', out)
  const { resolution, codebookSize } = tokenizer.config
  const begun: CodeIndex = {
    format: 'ernie-vilg-codes',
    version: 2,
    model: {
      fingerprint: await modelFingerprint(options.tokenizerFolder),
      resolution,
      grid: tokenizer.grid,
      codebookSize,
    },
    source: source.fingerprint,
    fit,
    rules: chain.settings,
    shardSize,
    shards: [],
    broken: source.broken,
    complete: false,
  }
  await makeFolder(out)
  const index = (await goOn(out, begun, chain)) ?? begun
  if (index.complete) return index
  let kept = index.shards.reduce((sum, { count }) => sum + count, 0)
  const from = index.shards.at(-1)?.end ?? { shard: 0, index: 0 }
  const report = (more: number, { shard }: SourcePosition) => onProgress?.(kept + more, shard / source.shards)
  if (kept > 0) report(0, from)
  const pairs = new FilteredPairs(source, { from, size: resolution, fit, chain, onBroken, signal })
  try {
    for (;;) {
      const shard = await writeShard(
        { tokenizer, out, batch, shardSize, pairs, chain, signal, report },
        index,
      )
      if (shard !== undefined) index.shards.push(shard)
      kept += shard?.count ?? 0
      if (pairs.isOver) break
      await writeCodeIndex(out, index)
    }
  } finally {
    await pairs.close()
  }
  if (kept === 0) throw nothingKept(source, index)
  index.complete = true
  await writeCodeIndex(out, index)
  onProgress?.(kept, 1)
  return index
}

interface ShardWork {
  tokenizer: ImageTokenizer
  out: string
  batch: number
  shardSize: number
  pairs: FilteredPairs
  chain: FilterChain
  signal: AbortSignal | undefined
  report: (done: number, position: SourcePosition) => void
}

/** Writes the next shard; undefined where the source has come to its end. */
async function writeShard(
  { tokenizer, out, batch, shardSize, pairs, chain, signal, report }: ShardWork,
  { shards }: CodeIndex,
): Promise<CodeShard | undefined> {
  const n = tokenizer.grid ** 2
  const parts: Int32Array[] = []
  const lines: string[] = []
  while (lines.length < shardSize && !pairs.isOver) {
    signal?.throwIfAborted()
    const kept = await pairs.take(Math.min(batch, shardSize - lines.length))
    if (kept.length === 0) break
    const tensor = pixelsToTensor(kept.map(({ pair }) => pair))
    const { indices } = await tokenizer.encode(tensor, { count: kept.length, signal })
    parts.push(indices)
    for (const { pair, marks } of kept) {
      const { id, captions } = pair
      lines.push(JSON.stringify(Object.keys(marks).length === 0 ? { id, captions } : { id, captions, marks }))
    }
    report(lines.length, pairs.position)
  }
  const { read, broken, end } = pairs.takeReport()
  if (read === 0) return undefined
  const stem = `shard-${String(shards.length).padStart(5, '0')}`
  const shard: CodeShard = {
    codes: `${stem}.safetensors`,
    captions: `${stem}.jsonl`,
    count: lines.length,
    end,
    read,
    broken,
    dropped: chain.takeCounts(),
  }
  await writeFileWhole(join(out, shard.captions), Buffer.from(lines.map((line) => `${line}\n`).join('')))
  const data = new Int32Array(lines.length * n)
  let offset = 0
  for (const part of parts) {
    data.set(part, offset)
    offset += part.length
  }
  const image = { name: 'image', dtype: 'I32', shape: [lines.length, n], data } as const
  await writeSafetensors(join(out, shard.codes), [image], { ...(signal ? { signal } : {}) })
  return shard
}

/** What became of the samples, over all shards. */
export function codeReport({
  shards,
  broken,
}: CodeIndex): FilterReport & { problems: BrokenSamples['listed'] } {
  const all = new BrokenSamples(broken)
  const dropped: FilterReport['dropped'] = {}
  let read = broken.count
  let kept = 0
  for (const shard of shards) {
    all.addAll(shard.broken)
    addCounts(dropped, shard.dropped)
    read += shard.read
    kept += shard.count
  }
  return { read, kept, broken: all.count, dropped, problems: all.listed }
}

/** The index of earlier runs, up to the first shard whose files are missing; undefined where there is none. */
async function goOn(out: string, begun: CodeIndex, chain: FilterChain): Promise<CodeIndex | undefined> {
  if ((await readTextIfThere(join(out, CODE_INDEX_FILE))) === undefined) return undefined
  const index = await readCodeIndex(out)
  const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b)
  const differing = [
    ...(index.model.fingerprint === begun.model.fingerprint ? [] : ['the image tokenizer']),
    ...(index.source === begun.source ? [] : ['the pictures or captions']),
    ...(index.shardSize === begun.shardSize ? [] : [`the shard size (${index.shardSize})`]),
    ...(index.fit === begun.fit ? [] : [`the fit (${index.fit})`]),
    ...(same(index.rules, begun.rules) ? [] : [`the rules (${JSON.stringify(index.rules)})`]),
  ]
  if (differing.length > 0) {
    const text = `Expected ${out} to be empty or begun with the same input, and it differs in ${differing.join(' and ')}. Give another folder`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path: out, differing })
  }
  const whole: CodeShard[] = []
  for (const shard of index.shards) {
    // shards whose files went are made again, and those behind them
    if (!(await isFile(join(out, shard.codes))) || !(await recallMarks(join(out, shard.captions), chain)))
      break
    whole.push(shard)
  }
  return { ...index, shards: whole, complete: index.complete && whole.length === index.shards.length }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true
}

/** Tells rules what they remembered of a shard. @returns whether its file is there */
async function recallMarks(path: string, chain: FilterChain): Promise<boolean> {
  const text = (await isFile(path)) ? await readFile(path, 'utf8') : undefined
  for (const line of text?.split('\n') ?? []) {
    if (line === '') continue
    const { marks } = JSON.parse(line) as { marks?: Record<string, string> }
    if (marks !== undefined) chain.recall(marks)
  }
  return text !== undefined
}

function nothingKept(source: SampleSource, index: CodeIndex): VilgError {
  const { dropped, problems, broken, read } = codeReport(index)
  if (read === broken) return noSamples({ ...source, broken: { count: broken, listed: problems } })
  const rules = Object.entries(dropped).map(([name, { samples }]) => `${name} ${samples}`)
  const text = `Expected samples of ${source.name} that pass the rules, and of ${read} none does: ${broken} are broken, and dropped were by ${rules.join(', ')}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { source: source.name, dropped })
}
