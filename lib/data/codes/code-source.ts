import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SafetensorsFile } from '../../checkpoint/safetensors.ts'
import { VilgError } from '../../errors.ts'
import { fingerprintOf } from '../sources/fingerprint.ts'
import type { BrokenSample, CodeSample, SampleSource } from '../sources/sample.ts'
import { type CodeIndex, type CodeModel, type CodeShard, readCodeIndex } from './code-index.ts'

/** A source of codes, and what they are of. */
export interface CodeSource extends SampleSource<'codes'> {
  readonly model: CodeModel
}

/**
 * The shards that {@link tokenizeSource} wrote. One shard is in memory at a time.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT where the shards are not complete yet; ERR_VILG_CHECKPOINT_FORMAT; ERR_VILG_IO
 */
export async function openCodeSource(folder: string): Promise<CodeSource> {
  const index = await readCodeIndex(folder)
  if (!index.complete) {
    const text = `Expected all shards of codes in ${folder}, and its tokenization is not finished. Run it again: it goes on where it was`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path: folder })
  }
  return {
    name: folder,
    kind: 'codes',
    shards: index.shards.length,
    fingerprint: fingerprintOf([index.model, index.source, index.fit, index.rules, index.shardSize]),
    broken: { count: 0, listed: [] },
    model: index.model,
    read: (shard, from) => readShard(folder, index, index.shards[shard]!, from),
  }
}

async function* readShard(
  folder: string,
  { model }: CodeIndex,
  shard: CodeShard,
  from: number,
): AsyncGenerator<CodeSample | BrokenSample> {
  if (from >= shard.count) return
  let rows: { codes: Int32Array; lines: string[] }
  try {
    rows = await readRows(folder, model, shard)
  } catch (error) {
    yield { index: from, id: shard.codes, reason: (error as Error).message }
    return
  }
  const n = model.grid ** 2
  for (let index = from; index < shard.count; index++) {
    const codes = rows.codes.slice(index * n, (index + 1) * n)
    const line = parseLine(rows.lines[index]!)
    const place = `${shard.captions}:${index + 1}`
    if (line === undefined) yield { index, id: place, reason: 'the line is not { id, captions }' }
    else if (codes.some((code) => code < 0 || code >= model.codebookSize))
      yield { index, id: line.id, reason: `it has codes outside 0 to ${model.codebookSize - 1}` }
    else yield { index, ...line, codes }
  }
}

async function readRows(folder: string, { grid }: CodeModel, { codes, captions, count }: CodeShard) {
  await using file = await SafetensorsFile.open(join(folder, codes))
  const info = file.tensors.get('image')
  const shape = `${count} x ${grid ** 2}`
  if (info?.dtype !== 'I32' || info.shape.join(' x ') !== shape) {
    const found = info === undefined ? 'none' : `${info.dtype}, ${info.shape.join(' x ')}`
    throw new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `Expected a tensor image of I32, ${shape}, found ${found}`,
    )
  }
  const lines = (await readFile(join(folder, captions), 'utf8')).split('\n').slice(0, -1)
  if (lines.length !== count)
    throw new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `Expected ${count} lines in ${captions}, found ${lines.length}`,
    )
  return { codes: (await file.read('image')) as Int32Array, lines }
}

function parseLine(line: string): { id: string; captions: string[] } | undefined {
  try {
    const { id, captions } = JSON.parse(line) as { id: unknown; captions: unknown }
    const isSound =
      typeof id === 'string' &&
      Array.isArray(captions) &&
      captions.length > 0 &&
      captions.every((caption) => typeof caption === 'string')
    return isSound ? { id, captions: captions as string[] } : undefined
  } catch {
    return undefined
  }
}
