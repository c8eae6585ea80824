import { stat } from 'node:fs/promises'
import { type CodeSource } from '../data/codes/code-source.ts'
import { openSource } from '../data/sources/open-source.ts'
import type { SampleSource } from '../data/sources/sample.ts'
import type { WeightedSource } from '../data/stream/mixer.ts'
import { VilgError } from '../errors.ts'
import { type SourceFlags, sourceOptions } from './source-options.ts'

type TrainingSource = WeightedSource<SampleSource<'images'> | CodeSource>

/**
 * Opens the sources of `--data path` or `--data path=weight`. What is there under the whole name is a path, so that one may end like a
 * weight.
 */
export async function openWeighted(data: readonly string[], flags: SourceFlags): Promise<TrainingSource[]> {
  const sources: TrainingSource[] = []
  for (const text of data) {
    const { path, weight } = await pathAndWeight(text)
    sources.push({ source: await openSource(path, sourceOptions(flags)), weight })
  }
  return sources
}

async function pathAndWeight(text: string): Promise<{ path: string; weight: number }> {
  const [, path, digits] = /^(.+)=([^=/\\]+)$/.exec(text) ?? []
  const isPath = await stat(text).then(
    () => true,
    () => false,
  )
  if (path === undefined || isPath) return { path: text, weight: 1 }
  const weight = Number(digits)
  if (weight > 0 && Number.isFinite(weight)) return { path, weight }
  const message = `Expected --data as a path or path=weight with a weight above 0, received ${text}`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', message, { data: text })
}
