import { createReadStream } from 'node:fs'
import { posix } from 'node:path'
import { pipeline } from 'node:stream'
import { extract, type Entry } from 'tar-stream'
import { captionLines, captionsOf, decodeText } from './captions.ts'
import { fingerprintOf } from './fingerprint.ts'
import type { FieldNames } from './list-file.ts'
import {
  type BrokenSample,
  IMAGE_EXTENSIONS,
  type ImageSample,
  MAX_CAPTION_BYTES,
  MAX_SHARD_IMAGE_BYTES,
  type SampleSource,
} from './sample.ts'
import { type ShardFile, sizesOf } from './shard-files.ts'

/**
 * WebDataset tar shards: entries that lie together and have the same name up to the first dot of its last part are one sample. Its
 * captions are the lines of `.txt`, or where there is none a field of `.json`; other entries are passed over. A shard is read from its
 * beginning to its end, with one sample in memory.
 *
 * @param name what the source is called in messages
 * @param files the shards, in order
 */
export async function openTarSource(
  name: string,
  files: readonly ShardFile[],
  fields: Pick<FieldNames, 'caption'> = {},
): Promise<SampleSource<'images'>> {
  const sizes = await sizesOf(files)
  return {
    name,
    kind: 'images',
    shards: files.length,
    fingerprint: fingerprintOf([fields, ...sizes]),
    broken: { count: 0, listed: [] },
    read: (shard, from) => readShard(files[shard]!, from, fields.caption),
  }
}

async function* readShard(
  { path, name }: ShardFile,
  from: number,
  captionField: string | undefined,
): AsyncGenerator<ImageSample | BrokenSample> {
  const tar = extract()
  pipeline(createReadStream(path), tar, () => {}) // its errors come out of the iteration
  const keys = new Set<string>()
  let group: Group | undefined
  let index = -1
  let entry: Entry | undefined
  try {
    for await (entry of tar) {
      const { type, name: entryName } = entry.header
      const { key, extension } = splitName(entryName)
      if (type !== 'file' || key === '') {
        entry.resume()
        continue
      }
      if (group?.key !== key) {
        if (group !== undefined && index >= from) yield toSample(group, name, index, captionField)
        index++
        group = new Group(key, keys.has(key))
        keys.add(key)
      }
      await group.take(entry, extension, index >= from)
    }
    if (group !== undefined && index >= from) yield toSample(group, name, index, captionField)
  } catch (error) {
    const last = group === undefined ? '' : ` after the entry ${entry?.header.name ?? group.key}`
    const reason = `truncated, damaged or no tar file${last}: ${(error as Error).message}`
    // the sample in work may lack some of its parts
    yield { index: Math.max(index, 0), id: name, reason }
  } finally {
    tar.destroy()
  }
}

/** What a sample is called and which part of it an entry is: `a/b.seg.png` is the part `.seg.png` of `a/b`. */
function splitName(entryName: string): { key: string; extension: string } {
  const path = posix.normalize(entryName.replaceAll('\\', '/'))
  const last = posix.basename(path)
  const dot = last.indexOf('.', 1)
  if (dot < 0) return { key: '', extension: '' }
  return { key: path.slice(0, path.length - last.length + dot), extension: last.slice(dot).toLowerCase() }
}

/** The parts of one sample. */
class Group {
  readonly key: string
  readonly parts = new Map<string, Buffer>()
  fault: string | undefined

  constructor(key: string, isRepeated: boolean) {
    this.key = key
    if (isRepeated) this.fault = 'another sample of this shard has the same name'
  }

  /** Reads an entry, or passes over one that is not needed. */
  async take(entry: Entry, extension: string, isWanted: boolean): Promise<void> {
    const isImage = IMAGE_EXTENSIONS.has(extension)
    const isCaption = extension === '.txt' || extension === '.json'
    const size = entry.header.size ?? 0
    const limit = isImage ? MAX_SHARD_IMAGE_BYTES : MAX_CAPTION_BYTES
    if (isImage || isCaption) {
      if (this.parts.has(extension)) this.fault ??= `it has two entries ${extension}`
      else if (size > limit) this.fault ??= `its ${extension} has ${size} bytes, at most ${limit} are read`
    }
    if (!isWanted || !(isImage || isCaption) || this.fault !== undefined) {
      entry.resume()
      return
    }
    const chunks: Buffer[] = []
    for await (const chunk of entry) chunks.push(chunk as Buffer)
    this.parts.set(extension, Buffer.concat(chunks))
  }
}

function toSample(
  { key, parts, fault }: Group,
  shard: string,
  index: number,
  captionField: string | undefined,
): ImageSample | BrokenSample {
  const id = `${shard}/${key}`
  if (fault !== undefined) return { index, id, reason: fault }
  const images = [...parts].filter(([extension]) => IMAGE_EXTENSIONS.has(extension))
  if (images.length !== 1) {
    const found =
      images.length === 0 ? 'no picture' : `several pictures (${images.map(([one]) => one).join(', ')})`
    return { index, id, reason: `it has ${found} among ${[...parts.keys()].join(', ') || 'its entries'}` }
  }
  const captions = captionsOfParts(parts, captionField)
  if ('reason' in captions) return { index, id, reason: captions.reason }
  return { index, id, captions: captions.captions, image: images[0]![1] }
}

function captionsOfParts(
  parts: ReadonlyMap<string, Buffer>,
  captionField: string | undefined,
): { captions: string[] } | { reason: string } {
  const text = parts.get('.txt')
  const json = parts.get('.json')
  if (text !== undefined && captionField === undefined) return prefixed('its .txt', captionLines(text))
  if (json === undefined)
    return { reason: captionField === undefined ? 'it has no .txt and no .json' : 'it has no .json' }
  const decoded = decodeText(json)
  if ('reason' in decoded) return prefixed('its .json', decoded)
  try {
    const record: unknown = JSON.parse(decoded.text)
    if (typeof record !== 'object' || record === null) return { reason: 'its .json is not an object' }
    return prefixed('its .json', captionsOf(record as Record<string, unknown>, captionField))
  } catch (error) {
    return { reason: `its .json is not JSON: ${(error as Error).message}` }
  }
}

function prefixed(what: string, found: { captions: string[] } | { reason: string }) {
  return 'reason' in found ? { reason: `${what} ${found.reason}` } : found
}
