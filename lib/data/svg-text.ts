import sharp from 'sharp'

// Strokes of a seven-segment digit in a box 1 wide and 2 high, by the letters a display's data sheet gives them.
const segments = {
  a: 'M0 0H1',
  b: 'M1 0V1',
  c: 'M1 1V2',
  d: 'M0 2H1',
  e: 'M0 1V2',
  f: 'M0 0V1',
  g: 'M0 1H1',
} as const
const glyphs: Readonly<Record<string, string>> = {
  '0': 'abcdef',
  '1': 'bc',
  '2': 'abged',
  '3': 'abgcd',
  '4': 'fgbc',
  '5': 'afgcd',
  '6': 'afgedc',
  '7': 'abc',
  '8': 'abcdefg',
  '9': 'abcdfg',
  '-': 'g',
  e: 'adefgb',
}
const advance = 1.7 // of the box's width

/** Text with the characters that XML has a meaning for escaped, and those it forbids (controls, halves of pairs) left out. */
export function escapeXml(text: string): string {
  return text
    .replace(/[\p{Cs}\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/gu, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}

/**
 * A number as drawn strokes, so that it can be read on a machine without any font.
 *
 * @param text digits, `-`, `.` and `e`
 * @param x left edge, or the right one or the middle as `anchor` says
 * @param y upper edge
 * @param height height of a digit, in pixels
 */
export function numberStrokes(
  text: string,
  x: number,
  y: number,
  height: number,
  color: string,
  anchor: 'start' | 'middle' | 'end' = 'start',
): string {
  const scale = height / 2
  const widths = [...text].map((character) => (character === '.' ? 0.8 : advance))
  const total = (widths.reduce((sum, width) => sum + width, 0) - (advance - 1)) * scale
  let left = anchor === 'start' ? x : anchor === 'end' ? x - total : x - total / 2
  let paths = ''
  for (const [i, character] of [...text].entries()) {
    const strokes =
      character === '.'
        ? 'M0 1.85V2'
        : [...(glyphs[character] ?? '')].map((name) => segments[name as keyof typeof segments]).join('')
    if (strokes !== '') {
      paths += `<path transform="translate(${round(left)} ${round(y)}) scale(${round(scale)})" d="${strokes}"/>`
    }
    left += widths[i]! * scale
  }
  return `<g fill="none" stroke="${color}" stroke-width="0.28" stroke-linecap="square">${paths}</g>`
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}

/** What the fonts of this machine can draw. */
export interface FontCoverage {
  /** Latin letters. */
  latin: boolean
  /** Chinese characters. */
  han: boolean
}

let coverage: Promise<FontCoverage> | undefined

/**
 * Finds out, once, what the fonts of this machine can draw, by drawing: without a font there is either nothing, or a box
 * with the code of the character. So 一 must be a flat stroke, and `l` a narrow one.
 */
export function fontCoverage(): Promise<FontCoverage> {
  coverage ??= (async () => {
    const [han, latin] = await Promise.all([inkBox('一'), inkBox('l')])
    return {
      han: han !== undefined && han.height < han.width / 2,
      latin: latin !== undefined && latin.width < latin.height / 1.4,
    }
  })()
  return coverage
}

/** Whether the fonts can draw `text`. Characters beyond Latin and Han are taken to come with the Han ones. */
export function canDraw(text: string, fonts: FontCoverage): boolean {
  return /^[\u0020-\u024f\u2010-\u2027]*$/.test(text) ? fonts.latin : fonts.latin && fonts.han
}

async function inkBox(text: string): Promise<{ width: number; height: number } | undefined> {
  const side = 96
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}"><rect width="100%" height="100%" fill="#fff"/>` +
    `<text x="16" y="64" font-size="48" font-family="sans-serif">${text}</text></svg>`
  const { data, info } = await sharp(Buffer.from(svg)).greyscale().raw().toBuffer({ resolveWithObject: true })
  let [left, right, top, bottom] = [side, -1, side, -1]
  for (let i = 0; i < side * side; i++) {
    if (data[i * info.channels]! > 128) continue
    const x = i % side
    const y = Math.floor(i / side)
    left = Math.min(left, x)
    right = Math.max(right, x)
    top = Math.min(top, y)
    bottom = Math.max(bottom, y)
  }
  return right < 0 ? undefined : { width: right - left + 1, height: bottom - top + 1 }
}
