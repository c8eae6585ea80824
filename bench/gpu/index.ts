// npm run gpu, or scripts/gpu.sh: see --help.
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Command } from 'commander'

import { GROUPS, type Part, PARTS, type Run } from './parts.ts'
import { Session } from './session.ts'
import { makeSettings } from './settings.ts'

const wholeSeconds = 9 * 60
const fromHere = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const names = PARTS.filter(({ forGroups }) => !forGroups).map(({ name }) => name)

interface Options {
  only?: string[]
  quick: boolean
  tiny: boolean
  out: string
  python: string
  commit?: string
}

const program = new Command('scripts/gpu.sh')
  .description(
    'Checks and measures everything on a machine with a GPU, in at most nine minutes: what is there, what the device can do at most, every wrapper of an instruction against its emulation, all kernel and model tests on the device, compute-sanitizer where it is there, and the benchmarks against PyTorch where it is there. The table comes last.',
  )
  .option('--only <part...>', `only these parts: ${names.join(', ')}`)
  .option('--quick', 'few samples: for a first look', false)
  .option('--tiny', 'sizes that an emulated device can do: to try the script itself', false)
  .option('--out <folder>', 'where log, table, entries and result go', fromHere('../../out/gpu'))
  .option('--python <program>', 'the Python that has PyTorch', 'python3')
  .option('--commit <id>', 'what is measured, where this is no clone that knows it')
  .addHelpText(
    'after',
    `
It needs node, node_modules, and what is built: build/Release (vilg.node, libvilg_cuda.so) and build/tests/vilg_cuda_tests.
A run of all parts without --quick and --tiny also writes its result to bench/results/gpu/<device>.json.
The exit code is 0 where everything was right, whatever the times.`,
  )
  .action(main)
await program.parseAsync()

async function main(options: Options): Promise<void> {
  const { only, quick, tiny, out, python, commit } = options
  const unknown = only?.find((name) => !names.includes(name))
  if (unknown !== undefined) {
    return program.error(`Expected parts among ${names.join(', ')}, received ${unknown}`)
  }
  const wanted = only ?? names
  // without knowing what is there, nothing else can be done
  const parts = PARTS.filter(({ name, forGroups }) =>
    forGroups ? GROUPS.some((group) => wanted.includes(group)) : name === 'info' || wanted.includes(name),
  )
  const flags = process.argv.slice(2).filter((argument) => argument !== '')
  const command = ['scripts/gpu.sh', ...flags].join(' ')
  const session = new Session(out, command, makeSettings({ quick, tiny }), wholeSeconds, commit)
  const run: Run = {
    session,
    python,
    tiny,
    env: { ...process.env },
    peers: undefined,
    comparedGroups: GROUPS.filter((group) => wanted.includes(group)),
    testSeconds: new Map(),
  }
  for (const [i, part] of parts.entries()) {
    const goOn = await runPart(part, parts.slice(i + 1), run)
    session.write()
    if (!goOn) break
  }
  run.peers?.kill()
  const result = session.write()
  console.log(`\n${session.table}`)
  const whole = only === undefined && !quick && !tiny
  if (result && whole) await keep(result)
  process.exitCode = session.right ? 0 : 1
}

/** Runs a part for as long as it may and the others can spare; false where nothing else makes sense. */
async function runPart(part: Part, later: readonly Part[], run: Run): Promise<boolean> {
  const { session } = run
  const reserved = later.reduce((sum, { reserve }) => sum + reserve, 0)
  const seconds = Math.min(part.limit, Math.max(session.left - reserved, part.reserve), session.left - 3)
  if (seconds < 5) {
    session.report({ check: part.name, ok: false, detail: 'no time was left for it' })
    return true
  }
  session.log.say(`-- ${part.name}, at most ${seconds.toFixed(0)} s`)
  try {
    return (await part.run(run, seconds)) !== false
  } catch (error) {
    session.report({ check: part.name, ok: false, detail: (error as Error).stack ?? String(error) })
    return true
  }
}

/** Into bench/results/gpu, whole or not at all. */
async function keep({ name, text }: { name: string; text: string }): Promise<void> {
  const folder = fromHere('../results/gpu')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${name}.tmp`), text)
  await rename(join(folder, `${name}.tmp`), join(folder, name))
}
