import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFileWhole } from '../../data/image.ts'

/** What a training stage was and what came of it. */
export interface StageMeasurements {
  steps: number
  batch: number
  /** Over all its parts, evaluations included. */
  seconds: number
  parameters: number
  /** The last evaluation. */
  heldOut?: Record<string, unknown> | undefined
}

/** What is known of a run. */
export interface Measurements {
  imageTokenizer?: StageMeasurements
  generator?: StageMeasurements
  /** Training of the generator on questions, after that on captions. */
  answers?: StageMeasurements
  matcher?: StageMeasurements
}

const fileOf = (folder: string) => join(folder, 'measurements.json')

/** The numbers of the run in `folder`; none before the first stage. */
export async function readMeasurements(folder: string): Promise<Measurements> {
  try {
    return JSON.parse(await readFile(fileOf(folder), 'utf8')) as Measurements
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
}

/** Adds numbers to those of the run in `folder`. */
export async function writeMeasurements(folder: string, more: Measurements): Promise<void> {
  const all = { ...(await readMeasurements(folder)), ...more }
  await writeFileWhole(fileOf(folder), Buffer.from(`${JSON.stringify(all, null, 2)}\n`))
}
