import { stat, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp, { type Sharp, type SharpOptions } from 'sharp'
import { VilgError } from '../errors.ts'
import { makeFolder } from '../make-folder.ts'
import {
  expectInteger,
  expectOneOf,
  expectTypedArray,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { writeWhole } from '../write-whole.ts'

/** A picture of 8-bit RGB pixels, row by row from the top, three bytes a pixel. */
export interface RgbImage {
  /** height x width x 3 bytes */
  pixels: Uint8Array
  width: number
  height: number
}

/** A picture: a path, a `file:` URL, the bytes of an encoded file (PNG, JPEG, WebP, GIF, AVIF, TIFF), or RGB pixels. */
export type ImageInput = string | URL | Uint8Array | RgbImage

/**
 * How a picture that is not square becomes square: `cover` cuts the middle out, `contain` adds white at the sides, `fill`
 * stretches.
 */
export const IMAGE_FITS = Object.freeze(['cover', 'contain', 'fill'] as const)

/** One of {@link IMAGE_FITS}. */
export type ImageFit = (typeof IMAGE_FITS)[number]

/** Options of {@link readImage}. */
export interface ReadImageOptions {
  /** Side of the square result, in pixels, from 1 to 8192. */
  size: number
  /** `cover` unless given. */
  fit?: ImageFit
}

/**
 * The most pixels (width x height) an encoded picture may declare. 100 million are 300 MB of RGB; a file of some kilobytes
 * can declare ten billion.
 */
export const MAX_IMAGE_PIXELS = 100_000_000
/** The largest file that is read. */
export const MAX_IMAGE_FILE_BYTES = 512 * 1024 * 1024

const maxSize = 8192
// As sharp names them: 'heif' covers AVIF, 'raw' is what pixels come as.
const formats: ReadonlySet<string> = new Set(['png', 'jpeg', 'webp', 'gif', 'heif', 'tiff', 'raw'])
const white = '#ffffff'
// 'error' is the level that refuses truncated and damaged data, yet not a harmless oddity in some metadata block.
const decodeLimits = { failOn: 'error', limitInputPixels: MAX_IMAGE_PIXELS } as const

/**
 * Reads a picture as RGB pixels of a square size.
 *
 * The picture is turned upright (EXIF), converted to sRGB with 8 bits a channel, laid on white where it is transparent, made
 * square as `fit` says, and resized with a Lanczos filter. Of an animation, the first frame is taken.
 *
 * Throws `ERR_VILG_IO` if the file cannot be read, `ERR_VILG_INVALID_ARGUMENT` if it holds no sound picture or one of more
 * than {@link MAX_IMAGE_PIXELS}.
 */
export async function readImage(input: ImageInput, options: ReadImageOptions): Promise<RgbImage> {
  rejectUnknownKeys('readImage options', options, ['size', 'fit'])
  const size = expectInteger('size', options?.size, { min: 1, max: maxSize })
  const fit = expectOneOf('fit', options.fit ?? 'cover', IMAGE_FITS)
  const { label, open: openImage } = await imageSource(input)
  const { width, height } = await checkDecodable(label, openImage)

  const pixels = await decoding(label, async () => {
    let image = openImage().autoOrient()
    if (fit === 'cover') {
      // Cut first: resizing a 20,000 x 10 strip to the height of the result would pass through a picture of 2000 times the
      // area that is kept.
      const side = Math.min(width, height)
      const left = Math.floor((width - side) / 2)
      const top = Math.floor((height - side) / 2)
      image = image.extract({ left, top, width: side, height: side })
    }
    image = image.flatten({ background: white }).resize(size, size, {
      fit: fit === 'contain' ? 'contain' : 'fill',
      background: white,
      kernel: 'lanczos3',
    })
    return rgbOf(image, size * size)
  })
  return { pixels, width: size, height: size }
}

/**
 * Reads a picture as the RGB pixels that its file stores, of its own size: not turned, colours not converted by a profile, transparency left out.
 * That is what Pillow's `Image.open(path).convert('RGB')` gives, which metrics of pictures are defined on. Of 16-bit pictures, the upper 8 bits.
 *
 * Throws as {@link readImage}.
 */
export async function readStoredPixels(input: ImageInput): Promise<RgbImage> {
  const { label, open: openImage } = await imageSource(input)
  await checkDecodable(label, openImage)
  return decoding(label, async () => {
    const raw = openImage({ ignoreIcc: true }).toColourspace('srgb').removeAlpha().raw({ depth: 'uchar' })
    const { data, info } = await raw.toBuffer({ resolveWithObject: true })
    const { width, height, channels } = info
    return { pixels: toRgb(data, channels, width * height), width, height }
  })
}

/** Reads a picture as RGB pixels of its own width and height, and otherwise as {@link readImage} does. */
export async function readWholeImage(input: ImageInput): Promise<RgbImage> {
  const { label, open: openImage } = await imageSource(input)
  const { width, height } = await checkDecodable(label, openImage)
  const pixels = await decoding(label, () =>
    rgbOf(openImage().autoOrient().flatten({ background: white }), width * height),
  )
  return { pixels, width, height }
}

async function rgbOf(image: Sharp, numPixels: number): Promise<Uint8Array> {
  const raw = image.toColourspace('srgb').removeAlpha().raw({ depth: 'uchar' })
  const { data, info } = await raw.toBuffer({ resolveWithObject: true })
  return toRgb(data, info.channels, numPixels)
}

/** Refuses formats that hold no pixels of their own, and more pixels than are read; gives the size after turning upright. */
async function checkDecodable(
  label: string,
  openImage: ImageSource['open'],
): Promise<{ width: number; height: number }> {
  const { format, autoOrient } = await decoding(label, () => openImage().metadata())
  // A drawing or a document has no pixels of its own, and may refer to other files.
  if (!formats.has(format)) throw notAPicture(label, `it is of the format ${format}`)
  const { width, height } = autoOrient
  if (width * height > MAX_IMAGE_PIXELS) throw tooManyPixels(label, `${width} x ${height} pixels`)
  return { width, height }
}

/** Widens grey (1 channel) to RGB; 3 channels are taken over into an array of their own. */
function toRgb(data: Uint8Array, channels: number, numPixels: number): Uint8Array {
  if (data.length !== numPixels * channels || (channels !== 1 && channels !== 3)) {
    throw new VilgError('ERR_VILG_INTERNAL', `decoding gave ${data.length} bytes for ${numPixels} pixels`)
  }
  if (channels === 3) return new Uint8Array(data)
  const pixels = new Uint8Array(numPixels * 3)
  for (let i = 0; i < numPixels; i++) pixels.fill(data[i]!, i * 3, i * 3 + 3)
  return pixels
}

interface ImageSource {
  /** What the picture is called in errors. */
  label: string
  open: (options?: SharpOptions) => Sharp
}

async function imageSource(input: ImageInput): Promise<ImageSource> {
  if (typeof input === 'string' || input instanceof URL) {
    const path = toPath(input)
    const bytes = await readFileBytes(path)
    return { label: path, open: (options) => sharp(bytes, { ...decodeLimits, ...options }) }
  }
  if (ArrayBuffer.isView(input)) {
    // Copied, since the caller may write to the array while the picture is decoded on another thread.
    const bytes = Buffer.from(expectTypedArray('image', input, Uint8Array))
    if (bytes.length === 0) throw outOfRange('image', 'the bytes of an encoded picture', input)
    const label = `the image (${bytes.length} bytes)`
    return { label, open: (options) => sharp(bytes, { ...decodeLimits, ...options }) }
  }
  const { pixels, width, height } = checkRgbImage('image', input)
  const copy = Buffer.from(pixels)
  const raw = { width, height, channels: 3 } as const
  return {
    label: `the image (${width} x ${height})`,
    open: (options) => sharp(copy, { ...decodeLimits, ...options, raw }),
  }
}

function toPath(input: string | URL): string {
  if (typeof input === 'string') {
    if (input === '' || input.includes('\0')) throw outOfRange('image', 'the path of a picture', input)
    return input
  }
  if (input.protocol !== 'file:') throw outOfRange('image', 'a file: URL', input.href)
  try {
    return fileURLToPath(input)
  } catch (cause) {
    const text = `Expected a file: URL that names a local file for image, received "${input.href}"`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: 'image' }, { cause })
  }
}

// Read here and not by sharp: libvips keeps opened files by path, and would give the old picture for a file that changed.
async function readFileBytes(path: string): Promise<Buffer> {
  let bytes: Buffer
  try {
    const { size } = await stat(path)
    if (size > MAX_IMAGE_FILE_BYTES) {
      const text = `${path} has ${size} bytes, and pictures of at most ${MAX_IMAGE_FILE_BYTES} bytes are read`
      throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path, sizeBytes: size })
    }
    bytes = await readFile(path)
  } catch (cause) {
    if (cause instanceof VilgError) throw cause
    const text = `Cannot read the picture ${path}: ${messageOf(cause)}`
    throw new VilgError('ERR_VILG_IO', text, { path }, { cause })
  }
  if (bytes.length === 0) throw notAPicture(path, 'the file is empty')
  return bytes
}

async function decoding<T>(label: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof VilgError) throw cause
    const reason = messageOf(cause)
    if (/pixel limit|dimensions|too (large|big)/i.test(reason)) throw tooManyPixels(label, reason, cause)
    throw notAPicture(label, reason, cause)
  }
}

function notAPicture(label: string, reason: string, cause?: unknown): VilgError {
  const text = `Expected a sound PNG, JPEG, WebP, GIF, AVIF or TIFF picture, and ${label} is none: ${reason}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: 'image' }, { cause })
}

function tooManyPixels(label: string, found: string, cause?: unknown): VilgError {
  const text = `Expected a picture of at most ${MAX_IMAGE_PIXELS} pixels, and ${label} has more (${found}). Scale it down first`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: 'image' }, { cause })
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message.trim().replaceAll('\n', '; ') : String(cause)
}

/** Returns `image` if it is RGB pixels of the size it says, else throws. `name` is what the error calls it. */
export function checkRgbImage(name: string, image: unknown): RgbImage {
  if (typeof image !== 'object' || image === null || !('pixels' in image)) {
    throw typeMismatch(name, 'a path, a URL, the bytes of a picture, or { pixels, width, height }', image)
  }
  const { pixels, width, height } = image as RgbImage
  const side = { min: 1, max: 65535 }
  expectInteger(`${name}.width`, width, side)
  expectInteger(`${name}.height`, height, side)
  expectTypedArray(`${name}.pixels`, pixels, Uint8Array, width * height * 3)
  return { pixels, width, height }
}

/**
 * Pixels as the models take them: float32, N x 3 x height x width, a byte v becoming v / 127.5 - 1, so from -1 to 1.
 *
 * @param images one picture, or several of one size
 */
export function pixelsToTensor(images: RgbImage | readonly RgbImage[]): Float32Array {
  const list = Array.isArray(images) ? (images as readonly RgbImage[]) : [images as RgbImage]
  if (list.length === 0) throw outOfRange('images', 'at least one picture', list)
  const { width, height } = checkRgbImage('images[0]', list[0])
  const plane = width * height
  const tensor = new Float32Array(list.length * 3 * plane)
  list.forEach((image, n) => {
    checkRgbImage(`images[${n}]`, image)
    if (image.width !== width || image.height !== height) {
      const text = `Expected all pictures to be ${width} x ${height}, images[${n}] is ${image.width} x ${image.height}`
      throw new VilgError('ERR_VILG_SHAPE_MISMATCH', text, { argument: 'images' })
    }
    for (let channel = 0; channel < 3; channel++) {
      const target = (n * 3 + channel) * plane
      for (let i = 0; i < plane; i++) tensor[target + i] = image.pixels[i * 3 + channel]! / 127.5 - 1
    }
  })
  return tensor
}

/**
 * The pictures in a tensor of N x 3 x height x width values: x becomes floor((x + 1) * 127.5 + 0.5), so the nearest byte with
 * halves going up, and values beyond -1 and 1 become 0 and 255. Turns what {@link pixelsToTensor} made into the same bytes.
 *
 * NaN is an error (`ERR_VILG_INVALID_ARGUMENT`): a black spot would hide that a model went wrong.
 */
export function tensorToPixels(tensor: Float32Array, size: { width: number; height: number }): RgbImage[] {
  rejectUnknownKeys('tensorToPixels size', size, ['width', 'height'])
  const width = expectInteger('width', size?.width, { min: 1, max: 65535 })
  const height = expectInteger('height', size.height, { min: 1, max: 65535 })
  expectTypedArray('tensor', tensor, Float32Array)
  const plane = width * height
  const count = tensor.length / (3 * plane)
  if (count === 0 || !Number.isInteger(count)) {
    const expected = `a multiple of 3 x ${height} x ${width} values`
    throw outOfRange('tensor', expected, tensor, 'ERR_VILG_SHAPE_MISMATCH')
  }
  const images: RgbImage[] = []
  for (let n = 0; n < count; n++) {
    const pixels = new Uint8Array(3 * plane)
    for (let channel = 0; channel < 3; channel++) {
      const source = (n * 3 + channel) * plane
      for (let i = 0; i < plane; i++) pixels[i * 3 + channel] = toByte(tensor, source + i)
    }
    images.push({ pixels, width, height })
  }
  return images
}

function toByte(tensor: Float32Array, index: number): number {
  const value = tensor[index]!
  if (Number.isNaN(value)) throw outOfRange(`tensor[${index}]`, 'a number', value)
  return Math.min(255, Math.max(0, Math.floor((value + 1) * 127.5 + 0.5)))
}

/** Enlarges a picture by a whole factor, each pixel becoming a square: a small picture stays what it is, and can be seen. */
export function upscaleNearest(image: RgbImage, factor: number): RgbImage {
  const { pixels, width, height } = checkRgbImage('image', image)
  expectInteger('factor', factor, { min: 1, max: Math.floor(65535 / Math.max(width, height)) })
  const rowBytes = width * factor * 3
  const result = new Uint8Array(rowBytes * height * factor)
  for (let y = 0; y < height; y++) {
    const first = y * factor * rowBytes
    for (let x = 0; x < width * factor; x++) {
      const source = (y * width + Math.floor(x / factor)) * 3
      result.set(pixels.subarray(source, source + 3), first + x * 3)
    }
    for (let copy = 1; copy < factor; copy++) {
      result.copyWithin(first + copy * rowBytes, first, first + rowBytes)
    }
  }
  return { pixels: result, width: width * factor, height: height * factor }
}

/** The picture as the bytes of a PNG file. */
export async function encodePng(image: RgbImage): Promise<Buffer> {
  const { pixels, width, height } = checkRgbImage('image', image)
  const raw = { width, height, channels: 3 } as const
  return sharp(Buffer.from(pixels), { raw, limitInputPixels: false }).png().toBuffer()
}

/** Writes the picture as a PNG file, with the folders it needs. The file appears whole or not at all. */
export async function writePng(
  path: string,
  pixels: Uint8Array,
  width: number,
  height: number,
): Promise<void> {
  await writeFileWhole(path, await encodePng({ pixels, width, height }))
}

/** Writes a file beside its place and moves it there, so that nobody ever sees half of it. Makes the folders it needs. */
export async function writeFileWhole(path: string, bytes: Uint8Array): Promise<void> {
  await makeFolder(dirname(path))
  await writeWhole(path, (append) => append(bytes))
}
