import sharp from 'sharp'
import { VilgError } from '../errors.ts'
import { expectInteger, expectString, outOfRange, rejectUnknownKeys, typeMismatch } from '../validate.ts'
import { checkRgbImage, encodePng, type RgbImage, upscaleNearest } from './image.ts'
import { canDraw, escapeXml, fontCoverage, numberStrokes } from './svg-text.ts'

/** Options of {@link contactSheet}. */
export interface ContactSheetOptions {
  /** Tiles in a row, from 1. */
  columns: number
  /** Side of a tile in pixels, from 1. */
  tileSize: number
  /** One caption a tile, in the order of the tiles; none unless given. */
  captions?: readonly string[]
  /** Pixels between tiles and around them; 8 unless given. */
  padding?: number
}

/** What {@link contactSheet} returns. */
export interface ContactSheet {
  /** The bytes of a PNG file. */
  png: Buffer
  width: number
  height: number
  /**
   * Whether the tiles carry the numbers 1, 2, 3 ... in place of their captions, since the fonts of this machine cannot draw
   * those: whoever shows the sheet shows `captions` as a numbered list beside it.
   */
  numbered: boolean
}

const captionLines = 2
const maxSide = 32767 // of a sheet, in pixels

/**
 * Pictures in rows, with captions under them, as one PNG.
 *
 * A tile smaller than `tileSize` is enlarged by the greatest whole factor that fits, pixel by pixel, so that every pixel can
 * be told; a larger one is scaled down. Captions take up to two lines and are cut with an ellipsis where they are longer.
 */
export async function contactSheet(
  tiles: readonly RgbImage[],
  options: ContactSheetOptions,
): Promise<ContactSheet> {
  rejectUnknownKeys('contactSheet options', options, ['columns', 'tileSize', 'captions', 'padding'])
  if (!Array.isArray(tiles)) throw typeMismatch('tiles', 'an array of pictures', tiles)
  if (tiles.length === 0) throw outOfRange('tiles', 'at least one picture', tiles)
  const columns = Math.min(expectInteger('columns', options?.columns, { min: 1 }), tiles.length)
  const tileSize = expectInteger('tileSize', options.tileSize, { min: 1, max: 8192 })
  const padding = expectInteger('padding', options.padding ?? 8, { min: 0, max: 1024 })
  const captions = checkCaptions(options.captions, tiles.length)

  const numbered = await needsNumbers(captions)
  const fontSize = Math.max(11, Math.min(16, Math.round(tileSize / 8)))
  const lineHeight = Math.ceil(fontSize * 1.35)
  const captionHeight = captions === undefined ? 0 : lineHeight * (numbered ? 1 : captionLines) + 4
  const cellWidth = tileSize + padding
  const cellHeight = tileSize + captionHeight + padding
  const width = columns * cellWidth + padding
  const height = Math.ceil(tiles.length / columns) * cellHeight + padding
  if (width > maxSide || height > maxSide) {
    const text = `Expected a sheet of at most ${maxSide} x ${maxSide} pixels, and this one would be ${width} x ${height}. Use fewer or smaller tiles`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { width, height })
  }

  const canvas = Buffer.alloc(width * height * 3, 255)
  let labels = ''
  for (const [index, tile] of tiles.entries()) {
    const left = padding + (index % columns) * cellWidth
    const top = padding + Math.floor(index / columns) * cellHeight
    const fitted = await fitTile(checkRgbImage(`tiles[${index}]`, tile), tileSize)
    paste(canvas, width, fitted, left, top, tileSize)
    if (captions === undefined) continue
    const middle = left + tileSize / 2
    if (numbered) {
      labels += numberStrokes(String(index + 1), middle, top + tileSize + 5, fontSize * 0.8, '#222', 'middle')
    } else {
      wrap(captions[index]!, tileSize / fontSize).forEach((line, i) => {
        const baseline = top + tileSize + lineHeight * (i + 1)
        labels += `<text x="${middle}" y="${baseline}">${escapeXml(line)}</text>`
      })
    }
  }

  if (labels === '')
    return { png: await encodePng({ pixels: canvas, width, height }), width, height, numbered }
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" text-anchor="middle" ` +
    `font-family="sans-serif" font-size="${fontSize}" fill="#222">${labels}</svg>`
  const png = await sharp(canvas, { raw: { width, height, channels: 3 }, limitInputPixels: false })
    .composite([{ input: Buffer.from(svg), limitInputPixels: false }])
    .removeAlpha()
    .png()
    .toBuffer()
  return { png, width, height, numbered }
}

function checkCaptions(captions: readonly string[] | undefined, numTiles: number): string[] | undefined {
  if (captions === undefined) return undefined
  if (!Array.isArray(captions)) throw typeMismatch('captions', 'an array of strings', captions)
  if (captions.length !== numTiles) {
    throw outOfRange('captions', `one caption for each of ${numTiles} tiles`, captions)
  }
  return captions.map((caption, i) =>
    expectString(`captions[${i}]`, caption)
      .replace(/[\s\p{Cc}\p{Cs}]+/gu, ' ')
      .trim(),
  )
}

async function needsNumbers(captions: readonly string[] | undefined): Promise<boolean> {
  if (captions === undefined) return false
  const fonts = await fontCoverage()
  return !captions.every((caption) => canDraw(caption, fonts))
}

async function fitTile(tile: RgbImage, tileSize: number): Promise<RgbImage> {
  const longer = Math.max(tile.width, tile.height)
  if (longer === tileSize) return tile
  if (longer < tileSize) return upscaleNearest(tile, Math.floor(tileSize / longer))
  const raw = { width: tile.width, height: tile.height, channels: 3 } as const
  const { data, info } = await sharp(Buffer.from(tile.pixels), { raw, limitInputPixels: false })
    .resize(tileSize, tileSize, { fit: 'inside', kernel: 'lanczos3' })
    .raw()
    .toBuffer({ resolveWithObject: true })
  return { pixels: data, width: info.width, height: info.height }
}

function paste(
  canvas: Buffer,
  canvasWidth: number,
  tile: RgbImage,
  left: number,
  top: number,
  side: number,
): void {
  const x = left + Math.floor((side - tile.width) / 2)
  const y = top + Math.floor((side - tile.height) / 2)
  const rowBytes = tile.width * 3
  for (let row = 0; row < tile.height; row++) {
    canvas.set(tile.pixels.subarray(row * rowBytes, (row + 1) * rowBytes), ((y + row) * canvasWidth + x) * 3)
  }
}

/** Lines of at most `ems` font sizes: a Chinese character is one em wide, a Latin letter about 0.6. */
function wrap(caption: string, ems: number): string[] {
  const lines: string[] = []
  let line = ''
  let used = 0
  const characters = [...caption]
  for (const [i, character] of characters.entries()) {
    const width = character.codePointAt(0)! < 0x2000 ? 0.6 : 1
    if (used + width > ems && line !== '') {
      if (lines.length === captionLines - 1) {
        return [...lines, `${[...line].slice(0, -1).join('')}…`]
      }
      // Between words where there is a space not too far back, else anywhere, as in Chinese.
      const space = line.lastIndexOf(' ')
      const carried = character !== ' ' && space > line.length / 2 ? line.slice(space + 1) : ''
      lines.push(carried === '' ? line : line.slice(0, space))
      line = carried
      used = [...carried].reduce((sum, one) => sum + (one.codePointAt(0)! < 0x2000 ? 0.6 : 1), 0)
    }
    if (line === '' && character === ' ' && i > 0) continue
    line += character
    used += width
  }
  return line === '' ? lines : [...lines, line]
}
