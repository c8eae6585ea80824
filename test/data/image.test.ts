import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { crc32 } from 'node:zlib'
import test from 'ava'
import sharp from 'sharp'
import {
  encodePng,
  type ImageInput,
  pixelsToTensor,
  readImage,
  readStoredPixels,
  readWholeImage,
  type RgbImage,
  tensorToPixels,
  upscaleNearest,
  writePng,
} from '../../lib/data/image.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
const folder = await mkdtemp(join(tmpdir(), 'vilg-image-'))
test.after.always(() => rm(folder, { recursive: true }))

/** A picture in which every pixel differs from its neighbours. */
function gradient(width: number, height: number): RgbImage {
  const pixels = new Uint8Array(width * height * 3)
  for (let i = 0; i < width * height; i++) {
    pixels.set([(i % width) * 3, Math.floor(i / width) * 3, (i * 7) % 256], i * 3)
  }
  return { pixels, width, height }
}

function rgb({ pixels, width }: RgbImage, x: number, y: number): number[] {
  return [...pixels.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)]
}

function flat(color: number[], width = 8, height = 8): RgbImage {
  return { pixels: Uint8Array.from({ length: width * height * 3 }, (_, i) => color[i % 3]!), width, height }
}

test('a picture of the asked size comes through bit for bit, from every kind of input', async (t) => {
  const image = gradient(16, 16)
  const path = join(folder, 'same 图.png')
  await writePng(path, image.pixels, 16, 16)
  const bytes = await readFile(path)
  // At an offset within a larger buffer, as slices of files often are.
  const shifted = new Uint8Array(bytes.length + 5)
  shifted.set(bytes, 5)
  const inputs: ImageInput[] = [
    image,
    path,
    pathToFileURL(path),
    bytes,
    new Uint8Array(bytes),
    shifted.subarray(5),
  ]
  for (const input of inputs) t.deepEqual((await readImage(input, { size: 16 })).pixels, image.pixels)
})

test('cover cuts the middle out, contain pads with white, fill stretches', async (t) => {
  const wide: RgbImage = flat([0, 0, 255], 24, 8)
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 8; x++) wide.pixels.set([255, 0, 0], (y * 24 + 8 + x) * 3)
  }
  const cover = await readImage(wide, { size: 8 })
  t.deepEqual(cover.pixels, flat([255, 0, 0]).pixels)
  const contain = await readImage(wide, { size: 24, fit: 'contain' })
  t.deepEqual(rgb(contain, 12, 0), [255, 255, 255])
  t.deepEqual(rgb(contain, 12, 12), [255, 0, 0])
  t.deepEqual(rgb(contain, 1, 12), [0, 0, 255])
  const fill = await readImage(wide, { size: 24, fit: 'fill' })
  t.deepEqual(rgb(fill, 1, 1), [0, 0, 255])
  t.deepEqual(rgb(fill, 12, 1), [255, 0, 0])
})

test('alpha is laid on white, without the colours hidden under transparent pixels', async (t) => {
  const rgba = Buffer.alloc(8 * 8 * 4)
  for (let i = 0; i < 64; i++) rgba.set(i < 32 ? [255, 0, 0, 0] : [0, 0, 255, 128], i * 4)
  const png = await sharp(rgba, { raw: { width: 8, height: 8, channels: 4 } })
    .png()
    .toBuffer()
  const image = await readImage(png, { size: 8 })
  t.deepEqual(rgb(image, 0, 0), [255, 255, 255])
  const [red, green, blue] = rgb(image, 0, 7)
  // 128 of 255 parts blue: 127 of 255 white in the others, give or take a rounding.
  t.true(Math.abs(red! - 127) <= 1 && Math.abs(green! - 127) <= 1 && blue === 255)
  // Scaled down, too: where the halves meet is neither red nor dark.
  const [r, , b] = rgb(await readImage(png, { size: 1 }), 0, 0)
  t.true(r! > 150 && b! > 240)
})

test('grey, grey with alpha, 16-bit, palette, CMYK and 1-bit pictures become RGB', async (t) => {
  const orange = sharp(Buffer.from(flat([255, 128, 0]).pixels), { raw: { width: 8, height: 8, channels: 3 } })
  const grey = sharp({ create: { width: 8, height: 8, channels: 3, background: '#808080' } }).toColourspace(
    'b-w',
  )
  const near = (image: RgbImage, color: number[], tolerance: number) =>
    image.pixels.every((value, i) => Math.abs(value - color[i % 3]!) <= tolerance)

  const palette = await orange.clone().png({ palette: true }).toBuffer()
  t.true(near(await readImage(palette, { size: 8 }), [255, 128, 0], 1))
  const deep = await orange.clone().toColourspace('rgb16').png().toBuffer()
  t.is((await sharp(deep).metadata()).depth, 'ushort')
  t.true(near(await readImage(deep, { size: 8 }), [255, 128, 0], 1))
  const greyPng = await grey.clone().png().toBuffer()
  t.is((await sharp(greyPng).metadata()).channels, 1)
  t.true(near(await readImage(greyPng, { size: 8 }), [128, 128, 128], 1))
  const greyDeep = await grey.clone().toColourspace('grey16').png().toBuffer()
  t.is((await sharp(greyDeep).metadata()).depth, 'ushort')
  t.true(near(await readImage(greyDeep, { size: 8 }), [128, 128, 128], 1))
  const greyAlpha = await grey.clone().ensureAlpha(0).png().toBuffer()
  t.is((await sharp(greyAlpha).metadata()).channels, 2)
  t.true(near(await readImage(greyAlpha, { size: 8 }), [255, 255, 255], 0))
  const bit = await grey.clone().threshold(1).png({ palette: true, colours: 2 }).toBuffer()
  t.true(near(await readImage(bit, { size: 8 }), [255, 255, 255], 0))
  const cmyk = await orange.clone().toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer()
  t.is((await sharp(cmyk).metadata()).space, 'cmyk')
  const fromInk = rgb(await readImage(cmyk, { size: 8 }), 4, 4)
  // Inks cannot print this orange: it comes back duller, yet still orange.
  t.true(fromInk[0]! > 200 && fromInk[1]! > 90 && fromInk[1]! < 170 && fromInk[2]! < 90, String(fromInk))
})

test('a photo lying on its side is turned upright', async (t) => {
  const image = flat([255, 0, 0], 16, 8)
  for (let i = 0; i < 16 * 8; i++) if (i % 16 >= 8) image.pixels.set([0, 0, 255], i * 3)
  const raw = { width: 16, height: 8, channels: 3 } as const
  // 6: turn right by 90 degrees to see it upright, so that left becomes top.
  const turned = await sharp(Buffer.from(image.pixels), { raw })
    .withMetadata({ orientation: 6 })
    .png()
    .toBuffer()
  const upright = await readImage(turned, { size: 16, fit: 'fill' })
  t.deepEqual(rgb(upright, 0, 1), [255, 0, 0])
  t.deepEqual(rgb(upright, 15, 1), [255, 0, 0])
  t.deepEqual(rgb(upright, 0, 14), [0, 0, 255])
  const whole = await readWholeImage(turned)
  t.deepEqual([whole.width, whole.height], [8, 16])
  t.deepEqual(rgb(whole, 0, 0), [255, 0, 0])
  t.deepEqual(rgb(whole, 7, 7), [255, 0, 0])
  t.deepEqual(rgb(whole, 0, 8), [0, 0, 255])
})

test('a whole picture comes through bit for bit, of its own size, on white', async (t) => {
  const image = gradient(7, 3)
  t.deepEqual(await readWholeImage(await encodePng(image)), image)
  t.deepEqual(await readWholeImage(image), image)
  const clear = await sharp({ create: { width: 2, height: 1, channels: 4, background: '#ff000000' } })
    .png()
    .toBuffer()
  t.deepEqual([...(await readWholeImage(clear)).pixels], [255, 255, 255, 255, 255, 255])
  await t.throwsAsync(readWholeImage(Buffer.from('no picture')), invalid)
})

test('WebP, GIF, AVIF and TIFF are read, of an animation the first frame', async (t) => {
  const raw = { width: 8, height: 8, channels: 3 } as const
  const blue = sharp(Buffer.from(flat([0, 0, 255]).pixels), { raw })
  const files = [blue.webp({ lossless: true }), blue.gif(), blue.avif({ lossless: true }), blue.tiff()]
  for (const file of files) {
    const [red, green, blueness] = rgb(await readImage(await file.clone().toBuffer(), { size: 8 }), 4, 4)
    t.true(red! <= 3 && green! <= 3 && blueness! >= 252)
  }
  const frames = Buffer.concat([flat([0, 0, 255]), flat([255, 0, 0])].map(({ pixels }) => pixels))
  const animation = await sharp(frames, { raw: { ...raw, height: 16, pageHeight: 8 } })
    .gif()
    .toBuffer()
  t.is((await sharp(animation).metadata()).pages, 2)
  t.deepEqual(rgb(await readImage(animation, { size: 8 }), 4, 4), [0, 0, 255])
})

test('extreme shapes: 1 x 1, 20,000 x 10, 10 x 20,000', async (t) => {
  const dot = await encodePng(flat([10, 20, 30], 1, 1))
  t.deepEqual((await readImage(dot, { size: 32 })).pixels, flat([10, 20, 30], 32, 32).pixels)
  for (const [width, height] of [
    [20_000, 10],
    [10, 20_000],
  ] as const) {
    const strip = await encodePng(flat([10, 20, 30], width, height))
    for (const fit of ['cover', 'fill'] as const) {
      const image = await readImage(strip, { size: 32, fit })
      t.deepEqual(image.pixels, flat([10, 20, 30], 32, 32).pixels, `${width} x ${height} ${fit}`)
    }
    const contained = await readImage(strip, { size: 32, fit: 'contain' })
    t.deepEqual(rgb(contained, 0, 0), [255, 255, 255])
  }
})

test('corrupt and truncated files are refused', async (t) => {
  const image = gradient(64, 64)
  const raw = { width: 64, height: 64, channels: 3 } as const
  const png = await encodePng(image)
  const jpeg = await sharp(Buffer.from(image.pixels), { raw }).jpeg().toBuffer()
  const webp = await sharp(Buffer.from(image.pixels), { raw }).webp().toBuffer()
  for (const [name, bytes] of Object.entries({ png, jpeg, webp })) {
    await t.notThrowsAsync(readImage(bytes, { size: 8 }), name)
    for (const share of [0.9, 0.5, 0.1]) {
      const cut = bytes.subarray(0, Math.floor(bytes.length * share))
      await t.throwsAsync(readImage(cut, { size: 8 }), invalid, `${name} cut to ${share}`)
    }
  }
  const damaged = Buffer.from(png)
  damaged.fill(0x55, 200, 400)
  await t.throwsAsync(readImage(damaged, { size: 8 }), invalid)
  await t.throwsAsync(readImage(Buffer.from('not a picture at all'), { size: 8 }), invalid)
  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>')
  await t.throwsAsync(readImage(svg, { size: 8 }), { ...invalid, message: /format svg/ })
  await t.throwsAsync(readImage(new Uint8Array(0), { size: 8 }), invalid)
  const empty = join(folder, 'empty.png')
  await writeFile(empty, '')
  const error = await t.throwsAsync(readImage(empty, { size: 8 }), invalid)
  t.regex(error!.message, /empty\.png.*empty/)
})

test('a file that declares billions of pixels is refused by its header', async (t) => {
  const png = Buffer.from(await encodePng(flat([1, 2, 3])))
  png.writeUInt32BE(100_000, 16)
  png.writeUInt32BE(100_000, 20)
  png.writeUInt32BE(crc32(png.subarray(12, 29)), 29)
  const begun = performance.now()
  const error = await t.throwsAsync(readImage(png, { size: 8 }), invalid)
  t.regex(error!.message, /at most 100000000 pixels/)
  t.true(performance.now() - begun < 2000)
})

test('what is no picture input is refused', async (t) => {
  const size = 8
  await t.throwsAsync(readImage(join(folder, 'nowhere.png'), { size }), {
    code: 'ERR_VILG_IO',
    message: /nowhere/,
  })
  await t.throwsAsync(readImage(folder, { size }), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(readImage('', { size }), invalid)
  await t.throwsAsync(readImage('a\0b', { size }), invalid)
  await t.throwsAsync(readImage(new URL('https://example.com/a.png'), { size }), invalid)
  for (const bad of [
    null,
    undefined,
    5,
    {},
    [],
    new Float32Array(4),
    new Uint8Array(new SharedArrayBuffer(8)),
  ]) {
    await t.throwsAsync(readImage(bad as unknown as ImageInput, { size }), invalid, String(bad))
  }
  const { pixels } = flat([0, 0, 0])
  const shape = { code: 'ERR_VILG_SHAPE_MISMATCH' }
  await t.throwsAsync(readImage({ pixels, width: 8, height: 9 }, { size }), shape)
  await t.throwsAsync(readImage({ pixels, width: 0, height: 8 }, { size }), invalid)
  await t.throwsAsync(readImage({ pixels, width: Number.NaN, height: 8 }, { size }), invalid)
  const gone = flat([0, 0, 0])
  structuredClone(gone.pixels, { transfer: [gone.pixels.buffer as ArrayBuffer] })
  await t.throwsAsync(readImage(gone, { size }), invalid)
  for (const options of [
    { size: 0 },
    { size: 1.5 },
    { size: NaN },
    { size: 8, fit: 'crop' },
    { size: 8, sise: 1 },
    {},
  ]) {
    await t.throwsAsync(readImage(flat([0, 0, 0]), options as never), invalid, JSON.stringify(options))
  }
})

test('the input may be overwritten as soon as the call has returned', async (t) => {
  const image = gradient(16, 16)
  const before = image.pixels.slice()
  const reading = readImage(image, { size: 16 })
  image.pixels.fill(0)
  t.deepEqual((await reading).pixels, before)
})

test('a file that changes is read anew', async (t) => {
  const path = join(folder, 'changing.png')
  await writePng(path, flat([255, 0, 0]).pixels, 8, 8)
  t.deepEqual(rgb(await readImage(path, { size: 8 }), 0, 0), [255, 0, 0])
  await writePng(path, flat([0, 255, 0]).pixels, 8, 8)
  t.deepEqual(rgb(await readImage(path, { size: 8 }), 0, 0), [0, 255, 0])
})

test('pixels to tensor and back', (t) => {
  const pixels = Uint8Array.from({ length: 256 * 3 }, (_, i) => (i * 85) % 256)
  const image = { pixels, width: 16, height: 16 }
  const tensor = pixelsToTensor([image, flat([0, 255, 51], 16, 16)])
  t.is(tensor.length, 2 * 3 * 256)
  t.is(tensor[0], pixels[0]! / 127.5 - 1)
  t.is(tensor[256], Math.fround(pixels[1]! / 127.5 - 1))
  t.deepEqual([...tensor.subarray(768, 770)], [-1, -1])
  t.deepEqual([...tensor.subarray(768 + 256, 768 + 258)], [1, 1])
  const back = tensorToPixels(tensor, { width: 16, height: 16 })
  t.is(back.length, 2)
  t.deepEqual(back[0], image)
  t.deepEqual(back[1], flat([0, 255, 51], 16, 16))
})

test('tensor values are rounded to the nearest byte and clamped', (t) => {
  const byteOf = (value: number) =>
    tensorToPixels(new Float32Array(3).fill(value), { width: 1, height: 1 })[0]!.pixels[0]
  t.is(byteOf(-1), 0)
  t.is(byteOf(1), 255)
  t.is(byteOf(0), 128) // 127.5 goes up
  t.is(byteOf(0.49 / 127.5 - 1), 0)
  t.is(byteOf(0.51 / 127.5 - 1), 1)
  t.is(byteOf(-7), 0)
  t.is(byteOf(Infinity), 255)
  t.throws(() => byteOf(NaN), invalid)
})

test('tensors of the wrong size are refused', (t) => {
  const shape = { code: 'ERR_VILG_SHAPE_MISMATCH' }
  t.throws(() => tensorToPixels(new Float32Array(11), { width: 2, height: 2 }), shape)
  t.throws(() => tensorToPixels(new Float32Array(0), { width: 2, height: 2 }), shape)
  t.throws(() => tensorToPixels(new Float64Array(12) as never, { width: 2, height: 2 }), invalid)
  t.throws(() => pixelsToTensor([]), invalid)
  t.throws(() => pixelsToTensor([flat([1, 2, 3]), flat([1, 2, 3], 4, 4)]), shape)
})

test('enlarging repeats pixels', (t) => {
  const image = gradient(3, 2)
  const large = upscaleNearest(image, 4)
  t.is(large.width, 12)
  t.is(large.height, 8)
  for (let y = 0; y < 8; y++) {
    for (let x = 0; x < 12; x++) t.deepEqual(rgb(large, x, y), rgb(image, x >> 2, y >> 2))
  }
  t.deepEqual(upscaleNearest(image, 1), image)
  t.throws(() => upscaleNearest(image, 0), invalid)
})

test('writing makes folders, leaves nothing half done, and says what went wrong', async (t) => {
  const path = join(folder, 'a', 'b', 'c.png')
  const image = gradient(5, 4)
  await writePng(path, image.pixels, 5, 4)
  const { data, info } = await sharp(path).raw().toBuffer({ resolveWithObject: true })
  t.is(info.width, 5)
  t.deepEqual(new Uint8Array(data), image.pixels)
  t.deepEqual(await readdir(join(folder, 'a', 'b')), ['c.png'])
  await t.throwsAsync(writePng(join(path, 'd.png'), image.pixels, 5, 4), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(writePng(join(folder, 'a'), image.pixels, 5, 4), { code: 'ERR_VILG_IO' })
  t.deepEqual(
    (await readdir(folder)).filter((name) => name.includes('partial')),
    [],
  )
  await t.throwsAsync(writePng(path, image.pixels, 5, 5), { code: 'ERR_VILG_SHAPE_MISMATCH' })
})

test('stored pixels: of their own size, not turned, under transparency too; grey and 16 bits become 8-bit RGB', async (t) => {
  const image = gradient(5, 3)
  const raw = { width: 5, height: 3, channels: 3 } as const
  const stored = (bytes: Buffer) => readStoredPixels(bytes)
  t.deepEqual(await stored(await encodePng(image)), image)
  const turned = await sharp(Buffer.from(image.pixels), { raw })
    .withMetadata({ orientation: 6 })
    .png()
    .toBuffer()
  t.deepEqual(await stored(turned), image)
  const clear = Buffer.from([10, 20, 30, 0, 40, 50, 60, 255])
  const alpha = await sharp(clear, { raw: { width: 2, height: 1, channels: 4 } })
    .png()
    .toBuffer()
  t.deepEqual([...(await stored(alpha)).pixels], [10, 20, 30, 40, 50, 60])
  const grey = await sharp(Buffer.from([7, 200]), { raw: { width: 2, height: 1, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toBuffer()
  t.deepEqual([...(await stored(grey)).pixels], [7, 7, 7, 200, 200, 200])
  const sixteen = await sharp(new Uint16Array([0x1234, 0xabcd, 0xffff]), {
    raw: { width: 1, height: 1, channels: 3 },
  })
    .toColourspace('rgb16')
    .png()
    .toBuffer()
  t.deepEqual([...(await stored(sixteen)).pixels], [0x12, 0xab, 0xff])
  await t.throwsAsync(readStoredPixels(Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')), invalid)
  await t.throwsAsync(readStoredPixels(join(folder, 'missing.png')), { code: 'ERR_VILG_IO' })
})
