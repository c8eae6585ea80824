import { createHash, randomInt } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { writeFileWhole } from '../data/image.ts'
import { CounterRandom } from '../data/random.ts'
import { VilgError } from '../errors.ts'
import { checkSignal } from '../native/call.ts'
import { expectString, outOfRange } from '../validate.ts'
import { studyPage } from './page-html.ts'
import type { PageStudy, PageUnit, ResponseId } from './page-study.ts'
import { KEY_FORMAT, type KeyUnit, type StudyKey } from './study-files.ts'
import { type CheckedItem, type CheckedStudy, checkStudy, type CreateStudyOptions } from './study-options.ts'
import { type ItemPictures, readPictures, sizeWarnings, type StudyPicture } from './study-pictures.ts'

/** What {@link createStudy} made. */
export interface CreatedStudy {
  /** What the key file holds. */
  key: StudyKey
  /** Size of the page. */
  pageBytes: number
  /** What may tell raters which system they see. */
  warnings: string[]
}

// What the random numbers of a seed are for.
const streams = { units: 1, sides: 2, order: 3 } as const
const seedLimit = 2 ** 48 // of random seeds; the largest range of randomInt

/**
 * Makes a study: a page for raters, which works from a file and without a network, and its key.
 *
 * The page names no system. Its units are in random order, with ids that count in that order, and each rater sees them in an order of their
 * own; pictures are written anew from their pixels. Same options and seed, same page. The files appear whole, the key first.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT for options that do not fit together, pictures that cannot be read, files that are there already;
 *   ERR_VILG_IO
 */
export async function createStudy(options: CreateStudyOptions): Promise<CreatedStudy> {
  const study = checkStudy(options)
  const { signal, onProgress, imageSize, overwrite = false } = options
  checkSignal(signal)
  const [page, keyFile] = [expectPath('page', options.page), expectPath('key', options.key)]
  if (resolve(page) === resolve(keyFile))
    throw outOfRange('key', 'another file than that of the page', keyFile)
  for (const path of overwrite ? [] : [page, keyFile]) await refuseExisting(path)
  const seed = options.seed ?? randomInt(seedLimit - 1)
  const judgesImages = study.protocol.judged === 'image'
  const pictures = await readPictures(study.items, judgesImages, { imageSize, signal, onProgress })
  const { pageStudy, key } = blind(study, pictures, seed)
  const html = Buffer.from(await studyPage(pageStudy))
  signal?.throwIfAborted()
  await writeFileWhole(keyFile, Buffer.from(`${JSON.stringify(key, null, 2)}\n`))
  await writeFileWhole(page, html)
  return { key, pageBytes: html.length, warnings: sizeWarnings(pictures) }
}

function expectPath(name: string, value: unknown): string {
  const path = expectString(name, value)
  if (path === '' || path.includes('\0')) throw outOfRange(name, 'a path', value)
  return path
}

async function refuseExisting(path: string): Promise<void> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  )
  if (!isThere) return
  const text = `${path} is there already. Without its key, the results of a study cannot be read: give another name, or overwrite`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path })
}

/** Parts what raters may know from what they may not. */
function blind(
  study: CheckedStudy,
  pictures: readonly ItemPictures[],
  seed: number,
): { pageStudy: PageStudy; key: StudyKey } {
  const { name, criteria, items, systems, shown, title, instructions, language } = study
  const sides = new CounterRandom(seed, streams.sides)
  const combinations = items.flatMap((item, i) =>
    shown.map((together) => ({ item, own: pictures[i]!, together })),
  )
  const table = new PictureTable()
  const keyUnits: Record<string, KeyUnit> = {}
  const units = new CounterRandom(seed, streams.units)
    .shuffled(combinations)
    .map(({ item, own, together }, i) => {
      const id = `u${i + 1}`
      const placed = sides.shuffled(together)
      keyUnits[id] = {
        item: item.id,
        ...(item.angle === undefined ? {} : { angle: item.angle }),
        systems: placed,
      }
      return pageUnit(id, item, own, placed, table)
    })
  const ids = criteria.map((criterion) => criterion.id)
  const facts = { title, protocol: name, criteria: ids, systems: [...systems], seed, units: keyUnits }
  const fingerprint = createHash('sha256')
    .update(JSON.stringify({ ...facts, instructions, shown: units, pictures: table.hashes }))
    .digest('hex')
    .slice(0, 16)
  const order = new CounterRandom(seed, streams.order)
  return {
    key: { format: KEY_FORMAT, version: 1, study: fingerprint, ...facts },
    pageStudy: {
      study: fingerprint,
      title,
      instructions,
      language,
      order: `${order.next().toString(16)}${order.next().toString(16)}`,
      criteria,
      units,
      pictures: table.uris,
    },
  }
}

function pageUnit(
  id: string,
  { text, question, responses }: CheckedItem,
  { given, judged }: ItemPictures,
  systems: readonly string[],
  table: PictureTable,
): PageUnit {
  const image = given === undefined ? {} : { image: table.idOf(given) }
  return {
    id,
    ...(text === undefined ? {} : { text }),
    ...(question === undefined ? {} : { question }),
    ...image,
    responses: systems.map((system, i) => {
      const picture = judged.get(system)
      const responseId: ResponseId = i === 0 ? 'a' : 'b'
      return picture === undefined
        ? { id: responseId, text: responses[system] as string }
        : { id: responseId, image: table.idOf(picture) }
    }),
  }
}

/** Gives pictures ids in the order in which they come, equal ones the same. */
class PictureTable {
  readonly #ids = new Map<string, string>()
  readonly uris: Record<string, string> = {}

  idOf({ png, hash }: StudyPicture): string {
    const known = this.#ids.get(hash)
    if (known !== undefined) return known
    const id = `p${this.#ids.size + 1}`
    this.#ids.set(hash, id)
    this.uris[id] = `data:image/png;base64,${png.toString('base64')}`
    return id
  }

  get hashes(): string[] {
    return [...this.#ids.keys()]
  }
}
