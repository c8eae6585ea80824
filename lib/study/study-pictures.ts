import { createHash } from 'node:crypto'
import { encodePng, type ImageInput, readImage, readWholeImage } from '../data/image.ts'
import { eachInParallel } from '../data/parallel.ts'
import { VilgError } from '../errors.ts'
import type { CheckedItem, StudyProgress } from './study-options.ts'

/** A picture as the page holds it. */
export interface StudyPicture {
  /** The bytes of a PNG file of the pixels alone: files may say in their metadata what made them. */
  png: Buffer
  /** Of `png`: equal pictures are in the page once. */
  hash: string
  width: number
  height: number
}

/** The pictures of an item. */
export interface ItemPictures {
  given?: StudyPicture
  /** By the system. */
  judged: Map<string, StudyPicture>
}

// Browsers hold strings of about half a gigabyte, and the page's text is one in base64 for a moment.
const maxPictureBytes = 256 * 2 ** 20

/** Reads all pictures of the items; `judged` says whether responses are pictures. */
export async function readPictures(
  items: readonly CheckedItem[],
  judged: boolean,
  {
    imageSize,
    signal,
    onProgress,
  }: {
    imageSize?: number | undefined
    signal?: AbortSignal | undefined
    onProgress?: ((event: StudyProgress) => void) | undefined
  },
): Promise<ItemPictures[]> {
  const pictures = items.map((): ItemPictures => ({ judged: new Map() }))
  const tasks = items.flatMap(({ id, image, responses }, i): PictureTask[] => {
    const { judged: bySystem } = pictures[i]!
    const given: PictureTask[] =
      image === undefined
        ? []
        : [{ item: id, input: image, size: undefined, keep: (one) => (pictures[i]!.given = one) }]
    const answers = judged ? Object.entries(responses) : []
    return [
      ...given,
      ...answers.map(([system, input]) => ({
        item: id,
        input,
        size: imageSize,
        keep: (one: StudyPicture) => bySystem.set(system, one),
      })),
    ]
  })
  const bytesByHash = new Map<string, number>()
  let done = 0
  await eachInParallel(tasks, async ({ item, input, size, keep }) => {
    signal?.throwIfAborted()
    const picture = await readPicture(item, input, size)
    keep(picture)
    bytesByHash.set(picture.hash, picture.png.length)
    refuseTooMany(bytesByHash)
    onProgress?.({ fraction: ++done / tasks.length })
  })
  return pictures
}

interface PictureTask {
  /** The id of its item. */
  item: string
  input: ImageInput
  /** Side of the square to make of it. */
  size: number | undefined
  keep: (picture: StudyPicture) => void
}

async function readPicture(item: string, input: ImageInput, size: number | undefined): Promise<StudyPicture> {
  try {
    const image =
      size === undefined ? await readWholeImage(input) : await readImage(input, { size, fit: 'contain' })
    const png = await encodePng(image)
    const hash = createHash('sha256').update(png).digest('hex')
    return { png, hash, width: image.width, height: image.height }
  } catch (error) {
    if (!(error instanceof VilgError)) throw error
    throw new VilgError(error.code, `item ${JSON.stringify(item)}: ${error.message}`, error.details, {
      cause: error,
    })
  }
}

function refuseTooMany(bytesByHash: ReadonlyMap<string, number>): void {
  let bytes = 0
  for (const one of bytesByHash.values()) bytes += one
  if (bytes <= maxPictureBytes) return
  const text = `Expected pictures of at most ${maxPictureBytes} bytes as PNG, which browsers can hold, and there are more. Give imageSize, or make several studies of fewer items`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { bytes })
}

/** How judged pictures of different sizes may tell systems apart, for whoever makes the study; empty where they do not. */
export function sizeWarnings(pictures: readonly ItemPictures[]): string[] {
  const sizes = new Map<string, Set<string>>()
  for (const { judged } of pictures) {
    for (const [system, { width, height }] of judged) {
      const own = sizes.get(system) ?? new Set()
      sizes.set(system, own.add(`${width} x ${height}`))
    }
  }
  const all = new Set([...sizes.values()].flatMap((own) => [...own]))
  if (all.size <= 1) return []
  // Pictures were read in an order of chance.
  const sorted = [...sizes].sort(([one], [other]) => (one < other ? -1 : 1))
  const shown = sorted.map(
    ([system, own]) => `${system}: ${[...own].slice(0, 3).join(', ')}${own.size > 3 ? ', ...' : ''}`,
  )
  return [
    `Pictures differ in size, by which raters may tell systems apart (${shown.join('; ')}); imageSize makes them alike`,
  ]
}
