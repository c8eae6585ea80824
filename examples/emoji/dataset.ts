import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { readImage, writeFileWhole } from '../../lib/data/image.ts'
import type { ImageTextPair } from '../../lib/data/pairs.ts'
import { eachInParallel } from '../../lib/data/parallel.ts'
import { VilgError } from '../../lib/errors.ts'
import { expectInteger, expectNumber, expectString, rejectUnknownKeys } from '../../lib/validate.ts'
import { type Annotation, makeCaptions } from './captions.ts'
import { chooseHeldOut } from './held-out.ts'

/** A picture of the data set. `captions[0]` is its name, `id` its code points as in `1f44b-1f3fb`. */
export interface EmojiItem extends ImageTextPair {
  /** The Chinese name that CLDR gives it; no other picture has it. */
  name: string
  /** The character itself. */
  emoji: string
  /** Such as `Animals & Nature`. */
  category: string
  subcategory: string
}

/** Options of {@link loadEmojiDataset}. */
export interface EmojiDatasetOptions {
  /** Side of the pictures; 64, in which they are drawn, unless given. */
  size?: number
  /** Decides captions and held-out pictures; 1 unless given. */
  seed?: number
  /** Where decoded pictures are kept for the next time; nowhere unless given. */
  cacheFolder?: string
  /** Longest caption, in characters, 22 at least (the longest name); 28 unless given. */
  maxCharacters?: number
  /** Share of the pictures that is held out; 0.05 unless given. */
  heldOutShare?: number
}

/** The pictures to train on, and those that combine what was seen in a way that was not. */
export interface EmojiDataset {
  train: EmojiItem[]
  heldOut: EmojiItem[]
}

const nativeSize = 64
const longestName = 22

/** All pictures with names and captions, split into those to train on and those held out. Takes some seconds. */
export async function loadEmojiDataset(options: EmojiDatasetOptions = {}): Promise<EmojiDataset> {
  const allowed = ['size', 'seed', 'cacheFolder', 'maxCharacters', 'heldOutShare']
  rejectUnknownKeys('loadEmojiDataset options', options, allowed)
  const size = expectInteger('size', options.size ?? nativeSize, { min: 1, max: 1024 })
  const seed = expectInteger('seed', options.seed ?? 1, { min: 0 })
  const maxCharacters = expectInteger('maxCharacters', options.maxCharacters ?? 28, { min: longestName })
  const share = expectNumber('heldOutShare', options.heldOutShare ?? 0.05, { min: 0, max: 1 })
  const folder =
    options.cacheFolder === undefined ? undefined : expectString('cacheFolder', options.cacheFolder)

  const pictures = await listPictures()
  const annotations = await annotate(pictures)
  const { pixels, twins } = await loadPixels(pictures, size, folder)
  const captions = makeCaptions(annotations, { seed, maxCharacters })
  const imageBytes = size * size * 3
  const items = pictures.map((picture, i): EmojiItem => {
    return {
      id: picture.file.replace(/\.png$/, ''),
      name: annotations[i]!.name,
      captions: captions[i]!,
      emoji: picture.emoji,
      category: picture.category,
      subcategory: picture.subcategory,
      pixels: pixels.subarray(i * imageBytes, (i + 1) * imageBytes),
      width: size,
      height: size,
    }
  })
  const unified = pictures.map((picture) => picture.unified)
  const heldOut = new Set(chooseHeldOut(unified, twins, { seed, share }))
  return {
    train: items.filter((_, i) => !heldOut.has(i)),
    heldOut: items.filter((_, i) => heldOut.has(i)),
  }
}

const picturePackage = 'emoji-datasource-google'

/** Where an installed package lies, or an error that says how to install it. */
function packageFolder(name: string): string {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${name}/package.json`))
  } catch (cause) {
    const text = `Cannot find the package ${name}, which the emoji example needs. Run "npm install" in examples/emoji`
    throw new VilgError('ERR_VILG_IO', text, { package: name }, { cause })
  }
}

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(path, 'utf8'))
}

interface Picture {
  /** Code points in hexadecimal, joined by `-`. */
  unified: string
  emoji: string
  /** Name of the PNG file. */
  file: string
  category: string
  subcategory: string
}

/** An entry of `emoji.json`, as far as it is read here. */
interface EmojiEntry {
  unified: string
  image: string
  category: string
  subcategory: string
  has_img_google: boolean
  skin_variations?: Record<string, { unified: string; image: string; has_img_google: boolean }>
}

async function listPictures(): Promise<Picture[]> {
  const entries = (await readJson(join(packageFolder(picturePackage), 'emoji.json'))) as EmojiEntry[]
  return entries.flatMap(({ category, subcategory, ...entry }) =>
    [entry, ...Object.values(entry.skin_variations ?? {})]
      .filter((variant) => variant.has_img_google)
      .map(({ unified, image }) => {
        const codes = unified.split('-').map((code) => Number.parseInt(code, 16))
        return { unified, emoji: String.fromCodePoint(...codes), file: image, category, subcategory }
      }),
  )
}

type AnnotationTable = Record<string, { default?: string[]; tts?: string[] }>

// U+FE0F asks for the coloured form of a character that has a plain one too; CLDR leaves it out, emoji.json does not.
const withoutVariation = (emoji: string) => emoji.replaceAll('\ufe0f', '')

/** Chinese names and keywords: of single characters from CLDR's own table, of sequences from the derived one. */
async function annotate(pictures: readonly Picture[]): Promise<Annotation[]> {
  const own = (await readJson(
    join(packageFolder('cldr-annotations-full'), 'annotations/zh/annotations.json'),
  )) as { annotations: { annotations: AnnotationTable } }
  const derived = (await readJson(
    join(packageFolder('cldr-annotations-derived-full'), 'annotationsDerived/zh/annotations.json'),
  )) as { annotationsDerived: { annotations: AnnotationTable } }
  const table = new Map(
    [derived.annotationsDerived.annotations, own.annotations.annotations]
      .flatMap((part) => Object.entries(part))
      .map(([emoji, annotation]) => [withoutVariation(emoji), annotation]),
  )
  const annotations = pictures.map(({ emoji, unified }): Annotation => {
    const found = table.get(withoutVariation(emoji))
    const name = found?.tts?.[0]
    if (name === undefined) {
      throw new VilgError(
        'ERR_VILG_IO',
        `CLDR has no Chinese name for ${unified}. Check the versions of the packages`,
      )
    }
    return { name, keywords: found?.default ?? [] }
  })
  const numNames = new Set(annotations.map(({ name }) => name)).size
  if (numNames !== annotations.length) {
    const text = `${annotations.length} pictures have ${numNames} different names. Check the versions of the packages`
    throw new VilgError('ERR_VILG_IO', text)
  }
  return annotations
}

interface Pixels {
  /** All pictures, one after the other. */
  pixels: Uint8Array
  /** For each picture, the index of the first with the same pixels in 64 x 64. */
  twins: number[]
}

async function loadPixels(
  pictures: readonly Picture[],
  size: number,
  folder: string | undefined,
): Promise<Pixels> {
  const source = packageFolder(picturePackage)
  const { version } = (await readJson(join(source, 'package.json'))) as { version: string }
  const files = createHash('sha256').update(pictures.map(({ file }) => file).join('\n'))
  const key = `${picturePackage} ${version} ${size} ${files.digest('hex')}`
  const cacheFile = folder === undefined ? undefined : join(folder, `emoji-${size}.rgb`)
  const numBytes = pictures.length * size * size * 3
  const cached = cacheFile === undefined ? undefined : await readCache(cacheFile, key, numBytes)
  if (cached !== undefined) return cached

  const pixels = new Uint8Array(numBytes)
  const digests: string[] = []
  await eachInParallel(pictures, async ({ file }, i) => {
    const native = await readImage(join(source, 'img/google/64', file), { size: nativeSize })
    digests[i] = createHash('sha256').update(native.pixels).digest('hex')
    const image = size === nativeSize ? native : await readImage(native, { size })
    pixels.set(image.pixels, i * size * size * 3)
  })
  const firsts = new Map<string, number>()
  const twins = digests.map((digest, i) => {
    if (!firsts.has(digest)) firsts.set(digest, i)
    return firsts.get(digest)!
  })
  if (cacheFile !== undefined) await writeCache(cacheFile, key, { pixels, twins })
  return { pixels, twins }
}

// The cache is one line of JSON and then the pixels. Whatever does not fit is made anew.
async function readCache(path: string, key: string, numBytes: number): Promise<Pixels | undefined> {
  try {
    const bytes = await readFile(path)
    const end = bytes.indexOf('\n')
    const header = JSON.parse(bytes.subarray(0, end).toString()) as { key: string; twins: number[] }
    const pixels = new Uint8Array(bytes.subarray(end + 1))
    return header.key === key && pixels.length === numBytes ? { pixels, twins: header.twins } : undefined
  } catch {
    return undefined
  }
}

async function writeCache(path: string, key: string, { pixels, twins }: Pixels): Promise<void> {
  const header = Buffer.from(`${JSON.stringify({ key, twins })}\n`)
  await writeFileWhole(path, Buffer.concat([header, pixels]))
}
