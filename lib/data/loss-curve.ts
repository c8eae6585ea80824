import sharp from 'sharp'
import {
  expectBoolean,
  expectInteger,
  expectString,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { escapeXml, numberStrokes } from './svg-text.ts'

/** A named line of a chart. */
export interface CurveSeries {
  name: string
  /** [x, y] pairs, x ascending. Points that are not finite (or not above zero where `logY`) leave a gap. */
  points: readonly (readonly [number, number])[]
}

/** Options of {@link lossCurve}. */
export interface LossCurveOptions {
  /** Pixels; 960 unless given. */
  width?: number
  /** Pixels; 540 unless given. */
  height?: number
  /** Text above the chart; none unless given. */
  title?: string
  /** Whether y is drawn on a logarithmic scale; `false` unless given. */
  logY?: boolean
}

// Colours that people with the common kinds of colour blindness can tell apart (Okabe and Ito, 2008).
const colors = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999933']
const margin = { left: 76, right: 20, top: 44, bottom: 40 }

/**
 * Draws training curves as a PNG: the series in colours with a legend, ticks at round numbers. Numbers are drawn as strokes,
 * so that they can be read on machines without fonts too.
 *
 * @param series from 1 to 8 of them, with one point that can be drawn at the least
 * @returns the bytes of a PNG file
 */
export async function lossCurve(
  series: readonly CurveSeries[],
  options: LossCurveOptions = {},
): Promise<Buffer> {
  rejectUnknownKeys('lossCurve options', options, ['width', 'height', 'title', 'logY'])
  const width = expectInteger('width', options.width ?? 960, { min: 200, max: 8192 })
  const height = expectInteger('height', options.height ?? 540, { min: 150, max: 8192 })
  const title = expectString('title', options.title ?? '')
  const logY = expectBoolean('logY', options.logY ?? false)
  if (!Array.isArray(series)) throw typeMismatch('series', 'an array of { name, points }', series)
  if (series.length === 0 || series.length > colors.length) {
    throw outOfRange('series', `from 1 to ${colors.length} series`, series)
  }
  const drawn = series.map(({ name, points }) => ({ name, points: toScale(points, logY) }))
  const finite = drawn.flatMap(({ points }) => points.filter((point) => point !== undefined))
  if (finite.length === 0) {
    throw outOfRange('series', `at least one finite point${logY ? ' above zero' : ''}`, series)
  }

  const xRange = extent(finite, 0)
  const yRange = extent(finite, 1)
  const plot = {
    left: margin.left,
    right: width - margin.right,
    top: margin.top,
    bottom: height - margin.bottom,
  }
  const toX = (x: number) =>
    plot.left + ((x - xRange.min) / (xRange.max - xRange.min)) * (plot.right - plot.left)
  const toY = (y: number) =>
    plot.bottom - ((y - yRange.min) / (yRange.max - yRange.min)) * (plot.bottom - plot.top)

  let body = `<rect width="${width}" height="${height}" fill="#fff"/>`
  for (const { at, label } of logY ? logTicks(yRange) : linearTicks(yRange, 8)) {
    const y = toY(at).toFixed(1)
    body += `<path d="M${plot.left} ${y}H${plot.right}" stroke="#ddd"/>`
    body += numberStrokes(label, plot.left - 8, Number(y) - 5, 10, '#444', 'end')
  }
  for (const { at, label } of linearTicks(xRange, 8)) {
    const x = toX(at).toFixed(1)
    body += `<path d="M${x} ${plot.top}V${plot.bottom}" stroke="#eee"/>`
    body += numberStrokes(label, Number(x), plot.bottom + 10, 10, '#444', 'middle')
  }
  body += `<path d="M${plot.left} ${plot.top}V${plot.bottom}H${plot.right}" stroke="#444" fill="none"/>`
  body += `<text x="${plot.left}" y="18" font-size="15">${escapeXml(title)}</text>`
  let legendX = plot.left
  for (const [i, { name, points }] of drawn.entries()) {
    const color = colors[i]!
    const path = linePath(points, toX, toY, plot.right - plot.left, xRange)
    body += `<path d="${path}" fill="none" stroke="${color}" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round"/>`
    body += `<rect x="${legendX}" y="26" width="12" height="12" fill="${color}"/>`
    body += `<text x="${legendX + 17}" y="37" font-size="13">${escapeXml(name)}</text>`
    legendX += 17 + [...name].length * 9 + 18
  }
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" fill="#222">${body}</svg>`
  return sharp(Buffer.from(svg)).removeAlpha().png().toBuffer()
}

type Point = readonly [number, number]
interface Extent {
  min: number
  max: number
}

function toScale(points: readonly Point[], logY: boolean): (Point | undefined)[] {
  return points.map(([x, y]) => {
    const value = logY ? Math.log10(y) : y // NaN or -Infinity where y is not above zero
    return Number.isFinite(x) && Number.isFinite(value) ? [x, value] : undefined
  })
}

function extent(points: readonly Point[], axis: 0 | 1): Extent {
  let min = Infinity
  let max = -Infinity
  for (const point of points) {
    min = Math.min(min, point[axis])
    max = Math.max(max, point[axis])
  }
  const room = max === min ? Math.max(Math.abs(min) * 0.1, 1e-3) : axis === 1 ? (max - min) * 0.04 : 0
  return { min: min - room, max: max + room }
}

/**
 * The line of a series. A run of 100,000 steps has a hundred points for every column of pixels: of each column, the lowest and
 * the highest are drawn, so that no spike is lost.
 */
function linePath(
  points: readonly (Point | undefined)[],
  toX: (x: number) => number,
  toY: (y: number) => number,
  columns: number,
  range: Extent,
): string {
  const kept = points.length > columns * 4 ? thin(points, columns, range) : points
  let path = ''
  let pen = 'M'
  for (const [i, point] of kept.entries()) {
    if (point === undefined) {
      pen = 'M'
      continue
    }
    path += `${pen}${toX(point[0]).toFixed(1)} ${toY(point[1]).toFixed(1)}`
    // A lone point between gaps shows as a dot, by the round cap of a line of no length.
    if (pen === 'M' && kept[i + 1] === undefined) path += 'h0'
    pen = 'L'
  }
  return path
}

function thin(points: readonly (Point | undefined)[], columns: number, range: Extent): (Point | undefined)[] {
  const kept: (Point | undefined)[] = []
  let column = -1
  let lowest: Point | undefined
  let highest: Point | undefined
  const flush = () => {
    if (lowest === undefined || highest === undefined) return
    kept.push(
      ...(lowest === highest ? [lowest] : lowest[0] <= highest[0] ? [lowest, highest] : [highest, lowest]),
    )
    lowest = highest = undefined
  }
  for (const point of points) {
    if (point === undefined) {
      flush()
      kept.push(undefined)
      continue
    }
    const at = Math.floor(((point[0] - range.min) / (range.max - range.min)) * columns)
    if (at !== column) flush()
    column = at
    if (lowest === undefined || point[1] < lowest[1]) lowest = point
    if (highest === undefined || point[1] > highest[1]) highest = point
  }
  flush()
  return kept
}

interface Tick {
  at: number
  label: string
}

/** About `count` ticks at multiples of 1, 2 or 5 times a power of ten. */
function linearTicks({ min, max }: Extent, count: number): Tick[] {
  const rough = (max - min) / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10)
  const ticks: Tick[] = []
  for (let i = Math.ceil(min / step); i * step <= max; i++)
    ticks.push({ at: i * step, label: label(i * step) })
  return ticks
}

/** Ticks at few or many multiples of the powers of ten, by how many of these there are. Positions are logarithms. */
function logTicks({ min, max }: Extent): Tick[] {
  if (max - min < 0.4) {
    return linearTicks({ min: 10 ** min, max: 10 ** max }, 6).map(({ at, label }) => ({
      at: Math.log10(at),
      label,
    }))
  }
  const factors = max - min < 1 ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : max - min < 3 ? [1, 2, 5] : [1]
  const ticks: Tick[] = []
  for (let power = Math.floor(min); power <= max; power++) {
    for (const factor of factors) {
      const at = power + Math.log10(factor)
      if (at >= min && at <= max) ticks.push({ at, label: label(factor * 10 ** power) })
    }
  }
  return ticks
}

function label(value: number): string {
  const size = Math.abs(value)
  if (size !== 0 && (size >= 1e6 || size < 1e-4))
    return value.toExponential(1).replace('+', '').replace('.0', '')
  return String(Number(value.toPrecision(6)))
}
