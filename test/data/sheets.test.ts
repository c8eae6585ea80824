import test from 'ava'
import sharp from 'sharp'
import { contactSheet } from '../../lib/data/contact-sheet.ts'
import type { RgbImage } from '../../lib/data/image.ts'
import { lossCurve } from '../../lib/data/loss-curve.ts'
import { canDraw, escapeXml, fontCoverage, numberStrokes } from '../../lib/data/svg-text.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }

function flat(color: number[], side: number): RgbImage {
  const pixels = Uint8Array.from({ length: side * side * 3 }, (_, i) => color[i % 3]!)
  return { pixels, width: side, height: side }
}

async function decode(png: Buffer) {
  const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true })
  const at = (x: number, y: number) => [
    ...data.subarray((y * info.width + x) * 3, (y * info.width + x) * 3 + 3),
  ]
  /** How many pixels of a rectangle are darker than mid grey. */
  const ink = (left: number, top: number, right: number, bottom: number) => {
    let count = 0
    for (let y = top; y < bottom; y++)
      for (let x = left; x < right; x++) if (Math.max(...at(x, y)) < 128) count++
    return count
  }
  return { width: info.width, height: info.height, channels: info.channels, at, ink }
}

const red = [255, 0, 0]
const green = [0, 255, 0]
const blue = [0, 0, 255]
const white = [255, 255, 255]

test('tiles lie in rows, small ones enlarged by whole factors, large ones scaled down', async (t) => {
  const tiles = [flat(red, 32), flat(green, 13), flat(blue, 100)]
  const sheet = await contactSheet(tiles, { columns: 2, tileSize: 32, padding: 4 })
  const { width, height, channels, at } = await decode(sheet.png)
  t.deepEqual([width, height, channels], [2 * 36 + 4, 2 * 36 + 4, 3])
  t.deepEqual([sheet.width, sheet.height, sheet.numbered], [width, height, false])
  t.deepEqual(at(3, 4), white)
  t.deepEqual(at(4, 4), red)
  t.deepEqual(at(35, 35), red)
  t.deepEqual(at(36, 4), white)
  // 13 pixels become 26, in the middle of 32.
  t.deepEqual(at(40 + 2, 4 + 3), white)
  t.deepEqual(at(40 + 3, 4 + 3), green)
  t.deepEqual(at(40 + 28, 4 + 28), green)
  t.deepEqual(at(40 + 29, 4 + 28), white)
  t.deepEqual(at(20, 40 + 16), blue)
  t.deepEqual(at(60, 60), white)
})

test('captions are drawn as text where the fonts can, else the tiles are numbered', async (t) => {
  const tiles = [flat(red, 128), flat(green, 128)]
  const options = { columns: 2, tileSize: 128, padding: 8 }
  const fonts = await fontCoverage()
  const latin = await contactSheet(tiles, { ...options, captions: ['a <b> & "c"\u0001', 'second'] })
  t.is(latin.numbered, !fonts.latin)
  const chinese = await contactSheet(tiles, { ...options, captions: ['一只猫', 'cat'] })
  t.is(chinese.numbered, !(fonts.han && fonts.latin))
  for (const sheet of [latin, chinese]) {
    const { ink, height } = await decode(sheet.png)
    t.true(ink(8, 136, 136, height) > 10)
    t.true(ink(144, 136, 272, height) > 10)
  }
})

test('numbers need no font', async (t) => {
  const render = async (text: string) => {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="200" height="40"><rect width="200" height="40" fill="#fff"/>${numberStrokes(text, 10, 10, 20, '#000')}</svg>`
    return sharp(Buffer.from(svg)).raw().toBuffer()
  }
  const drawn = await Promise.all([...'0123456789-.e'].map(render))
  const distinct = new Set(drawn.map((data) => data.toString('latin1')))
  t.is(distinct.size, 13)
  t.false(numberStrokes('12.5e-3', 0, 0, 10, '#000').includes('<text'))
})

test('canDraw and escapeXml', (t) => {
  t.true(canDraw('Plain - text…', { latin: true, han: false }))
  t.false(canDraw('猫', { latin: true, han: false }))
  t.true(canDraw('猫 cat', { latin: true, han: true }))
  t.false(canDraw('cat', { latin: false, han: false }))
  t.is(escapeXml('<a href="x">&\u0000\ud800</a>'), '&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;')
  t.is(escapeXml('😀猫'), '😀猫')
})

test('bad sheets are refused', async (t) => {
  const tiles = [flat(red, 8)]
  const options = { columns: 1, tileSize: 8 }
  await t.throwsAsync(contactSheet([], options), invalid)
  await t.throwsAsync(contactSheet(tiles, { ...options, captions: [] }), invalid)
  await t.throwsAsync(contactSheet(tiles, { ...options, captions: [5] as never }), invalid)
  await t.throwsAsync(contactSheet(tiles, { columns: 0, tileSize: 8 }), invalid)
  await t.throwsAsync(contactSheet(tiles, { ...options, gap: 1 } as never), invalid)
  const tall = Array.from({ length: 50 }, () => tiles[0]!)
  await t.throwsAsync(contactSheet(tall, { columns: 1, tileSize: 1000 }), { ...invalid, message: /fewer/ })
  const broken = { pixels: new Uint8Array(5), width: 2, height: 2 }
  await t.throwsAsync(contactSheet([broken], options), { code: 'ERR_VILG_SHAPE_MISMATCH' })
})

/** The height at which the blue line crosses a column, or undefined. */
async function lineAt(png: Buffer, x: number): Promise<number | undefined> {
  const { at, height } = await decode(png)
  for (let y = 45; y < height - 41; y++) {
    const [r, g, b] = at(x, y)
    if (r! < 80 && g! > 90 && g! < 140 && b! > 150) return y
  }
  return undefined
}

test('a curve falls where the loss falls, and gaps stay gaps', async (t) => {
  const points = Array.from({ length: 101 }, (_, i) => [i, i > 40 && i < 60 ? NaN : 100 - i] as const)
  const png = await lossCurve([{ name: 'loss', points }], { width: 400, height: 300, title: 'a < b' })
  const left = await lineAt(png, 100)
  const right = await lineAt(png, 360)
  t.true(left! < right! - 100, `${left} ${right}`)
  // Step 50 of 100 is in the middle of the plot, from 76 to 380.
  t.is(await lineAt(png, 228), undefined)
})

test('a logarithmic curve of a geometric series is straight; values not above zero are left out', async (t) => {
  const points = Array.from({ length: 101 }, (_, i) => [i, 10 ** (-i / 25)] as const)
  const png = await lossCurve([{ name: 'loss', points: [...points, [101, 0], [102, -1]] }], {
    width: 400,
    height: 300,
    logY: true,
  })
  const [a, b, c] = await Promise.all([lineAt(png, 120), lineAt(png, 200), lineAt(png, 280)])
  t.true(Math.abs(a! + c! - 2 * b!) <= 2, `${a} ${b} ${c}`)
  t.true(c! - a! > 50)
})

test('a long run is thinned without losing its spikes', async (t) => {
  const points = Array.from({ length: 200_000 }, (_, i) => [i, i === 100_000 ? 50 : 1] as const)
  const png = await lossCurve([{ name: 'loss', points }], { width: 400, height: 300 })
  const { at } = await decode(png)
  let spike = 0
  for (let y = 60; y < 240; y++) if (at(228, y)[0]! < 200 && at(228, y)[2]! > 120) spike++
  t.true(spike > 150, String(spike))
})

test('a single point and constant series can be drawn', async (t) => {
  await t.notThrowsAsync(lossCurve([{ name: 'one', points: [[0, 0]] }]))
  await t.notThrowsAsync(
    lossCurve([
      { name: 'a', points: [[5, 2], [6, 2]] },
      { name: 'b', points: [] },
    ], { logY: true }), // prettier-ignore
  )
})

test('curves without anything to draw are refused', async (t) => {
  await t.throwsAsync(lossCurve([]), invalid)
  await t.throwsAsync(lossCurve([{ name: 'a', points: [[1, NaN]] }]), invalid)
  await t.throwsAsync(lossCurve([{ name: 'a', points: [[1, -1]] }], { logY: true }), invalid)
  await t.throwsAsync(lossCurve([{ name: 'a', points: [[1, 1]] }], { log: true } as never), invalid)
  await t.throwsAsync(lossCurve([{ name: 'a', points: [[1, 1]] }], { width: 10 }), invalid)
})
