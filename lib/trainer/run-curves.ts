import { type CurveSeries, lossCurve } from '../data/loss-curve.ts'
import type { LogLine } from './run-log.ts'

const maxPoints = 600 // a curve is at most 1000 pixels wide

/**
 * Draws a run's losses: `keys` of its step lines (averaged over as many steps as make {@link maxPoints} points) and the same keys
 * of its evaluations. Undefined where the log has none of them yet.
 */
export async function drawCurves(
  lines: readonly LogLine[],
  keys: readonly string[],
  title: string,
): Promise<Buffer | undefined> {
  const series: CurveSeries[] = []
  for (const key of keys) {
    const steps = thin(pointsOf(lines, 'step', key))
    if (steps.length > 0) series.push({ name: key, points: steps })
    const evaluations = pointsOf(lines, 'evaluation', key)
    if (evaluations.length > 0) series.push({ name: `${key} (held out)`, points: evaluations })
  }
  return series.length === 0 ? undefined : lossCurve(series, { title })
}

function pointsOf(lines: readonly LogLine[], type: LogLine['type'], key: string): [number, number][] {
  return lines.flatMap((line): [number, number][] => {
    const value = line[key]
    return line.type === type && typeof value === 'number' ? [[line.step, value]] : []
  })
}

/** Means over equal stretches, at their middles. */
function thin(points: readonly [number, number][]): [number, number][] {
  const size = Math.ceil(points.length / maxPoints)
  if (size <= 1) return [...points]
  const means: [number, number][] = []
  for (let first = 0; first < points.length; first += size) {
    const part = points.slice(first, first + size)
    const mean = (at: 0 | 1) => part.reduce((sum, point) => sum + point[at], 0) / part.length
    means.push([mean(0), mean(1)])
  }
  return means
}
