// The process of some of our trials: tsx bench/gpu/measure.ts <who it is in the results> <settings as JSON> <trial>... Started by bench/gpu/index.ts;
// prints a line of JSON for every row (records.ts).
import { type Entry, measured } from './records.ts'
import type { Settings } from './settings.ts'
import type { GpuTrial, Reporter } from './trial.ts'
import { attention } from './trials/attention.ts'
import { copy, matmul } from './trials/ceilings.ts'
import { codebook } from './trials/codebook.ts'
import { decode } from './trials/decode.ts'
import { train } from './trials/train.ts'
import { vqgan } from './trials/vqgan.ts'

const trials: Record<string, GpuTrial> = { copy, matmul, attention, decode, train, vqgan, codebook }

const [by, json, ...names] = process.argv.slice(2) as [string, string, ...string[]]
const settings = JSON.parse(json) as Settings
const reporter: Reporter = {
  async attempt(row, work) {
    try {
      const { times, clock, details } = await work()
      print(measured(row, by, times, clock, details))
    } catch (error) {
      print({ row, by, failed: describe(error) })
    }
  },
  async check(name, work) {
    try {
      await work()
      print({ check: name, ok: true, detail: 'right' })
    } catch (error) {
      print({ check: name, ok: false, detail: describe(error) })
    }
  },
}
for (const name of names) {
  try {
    await trials[name]!(settings, reporter)
  } catch (error) {
    print({ check: `${by} runs the trial ${name}`, ok: false, detail: describe(error) })
  }
}

function print(entry: Entry): void {
  console.log(JSON.stringify(entry))
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = (error as { code?: unknown }).code
  return typeof code === 'string' ? `${code}: ${error.message}` : error.message
}
