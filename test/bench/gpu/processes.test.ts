import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'

import { listTests, runTests } from '../../../bench/gpu/native-tests.ts'
import { askAbout, Peers } from '../../../bench/gpu/peers.ts'
import { start, whatWentWrong } from '../../../bench/gpu/processes.ts'
import type { Entry } from '../../../bench/gpu/records.ts'
import { findSanitizer, sanitize, summarize, verdict } from '../../../bench/gpu/sanitizer.ts'
import { settings } from './helpers.ts'

/** A program in a folder of its own. */
async function program(t: ExecutionContext, script: string, name = 'program'): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-gpu-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, name)
  await writeFile(file, `#!/bin/sh\n${script}\n`)
  await chmod(file, 0o755)
  return file
}

const sh = (script: string, onLine?: (line: string) => void) => start('/bin/sh', ['-c', script], { onLine })

// --- processes -------------------------------------------------------------------------------------------------------

test('how processes end, and all that they said', async (t) => {
  const lines: string[] = []
  const ended = await sh('echo one; echo two >&2; printf three; exit 4', (line) => lines.push(line)).ended
  t.like(ended, { code: 4, signal: null, timedOut: false })
  t.is(whatWentWrong(ended), 'exit code 4')
  t.deepEqual(lines.sort(), ['one', 'three', 'two'])
  t.is(whatWentWrong(await sh('exit 0').ended), undefined)
  t.is(whatWentWrong(await sh('kill -SEGV $$').ended), 'ended by SIGSEGV')
  t.regex(whatWentWrong(await start('/nowhere/program', []).ended)!, /ENOENT/)
})

test('a limit ends a process with its children', async (t) => {
  let heard = () => {}
  const speaks = new Promise<void>((resolve) => (heard = resolve))
  // the child's child holds the output open, and would for an hour
  const run = sh('sleep 3600 & echo ready; wait', () => heard())
  run.limit(3600)
  await speaks
  run.limit(0.01)
  const ended = await run.ended
  t.true(ended.timedOut)
  t.regex(whatWentWrong(ended)!, /^stopped after/)
})

test('what a process leaves behind does not keep it from ending', async (t) => {
  t.is((await sh('sleep 3600 & exit 0').ended).code, 0)
})

test('input, and a reader that has gone', async (t) => {
  const lines: string[] = []
  const run = sh('read line; echo "got $line"', (line) => lines.push(line))
  run.say('go')
  await run.ended
  t.deepEqual(lines, ['got go'])
  t.notThrows(() => run.say('more'))
})

// --- native tests ----------------------------------------------------------------------------------------------------

const fakeTests = `
case "$1" in
  --list) echo good; echo bad; echo crash; echo slow ;;
  =good) echo "ok   good" ;;
  =bad) echo "  file.cc:1: wrong"; exit 1 ;;
  =crash) kill -ABRT $$ ;;
  =slow) sleep 3600 ;;
esac`

test('native tests run one by one; one that breaks or hangs is not the next', async (t) => {
  const file = await program(t, fakeTests)
  const names = await listTests(file, process.env)
  t.deepEqual(names, ['good', 'bad', 'crash', 'slow'])
  const options = { command: [file] as [string], env: process.env, parallel: 2, secondsEach: 1, seconds: 60 }
  const ended: string[] = []
  const { runs, left } = await runTests(names, { ...options, onEnd: ({ name }) => ended.push(name) })
  t.deepEqual(left, [])
  const found = Object.fromEntries(runs.map((run) => [run.name, run]))
  t.true(found['good']!.ok)
  t.like(found['bad'], { ok: false, problem: 'exit code 1', output: ['  file.cc:1: wrong'] })
  t.is(found['crash']!.problem, 'ended by SIGABRT')
  t.regex(found['slow']!.problem!, /stopped after/)
  t.deepEqual(ended.sort(), ['bad', 'crash', 'good', 'slow'])
})

test('tests that have not begun when the time is over are left', async (t) => {
  const file = await program(t, fakeTests)
  const options = { command: [file] as [string], env: process.env, parallel: 1, secondsEach: 9, seconds: 0 }
  t.deepEqual(await runTests(['good', 'bad'], options), { runs: [], left: ['good', 'bad'] })
})

test('a test program without tests, or that does not run, is an error', async (t) => {
  const [empty, broken] = [await program(t, ''), await program(t, 'echo "no library" >&2; exit 127')]
  await t.throwsAsync(listTests(empty, process.env), { message: /has no tests/ })
  await t.throwsAsync(listTests(broken, process.env), { message: /exit code 127\nno library/ })
})

// --- compute-sanitizer -----------------------------------------------------------------------------------------------

const ran = (name: string, code: number, ...output: string[]) => ({
  name,
  ok: code === 0,
  seconds: 1,
  code,
  output,
  ...(code === 0 ? {} : { problem: `exit code ${code}` }),
})
const clean = ran('a', 0, '========= ERROR SUMMARY: 0 errors')

test('verdicts of compute-sanitizer', (t) => {
  t.is(verdict(clean), 'clean')
  t.is(
    verdict(ran('a', 0, '========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)')),
    'clean',
  )
  t.is(verdict(ran('a', 86, '========= ERROR SUMMARY: 2 errors')), 'faults')
  t.is(verdict(ran('a', 0, 'ok   a')), 'no verdict') // it was never there
  t.is(verdict(ran('a', 1, 'FAIL a', '========= ERROR SUMMARY: 0 errors')), 'no verdict')
})

test('faults fail, tests without a verdict do not', (t) => {
  t.deepEqual(summarize('memcheck', [clean, ran('b', 1)], ['c', 'd']), {
    check: 'compute-sanitizer memcheck',
    ok: true,
    detail: '1 tests without a fault, 1 without a verdict (exit code 1), 2 left out for time',
  })
  const bad = ran('b', 86, 'noise', '========= Invalid __global__ write of size 4 bytes')
  t.deepEqual(summarize('memcheck', [clean, bad], []), {
    check: 'compute-sanitizer memcheck',
    ok: false,
    detail: 'faults in b: ========= Invalid __global__ write of size 4 bytes',
  })
})

test('compute-sanitizer that is there, that does not work, and that is not there', async (t) => {
  // says what it was asked for where that is not what it should be
  const works = await program(
    t,
    `case "$*" in
       "--tool memcheck --report-api-errors no --error-exitcode 86 tests ="[ab]) echo "========= ERROR SUMMARY: 0 errors" ;;
       *) echo "$*" ;;
     esac`,
    'compute-sanitizer',
  )
  const folder = join(works, '..')
  t.is(findSanitizer({ PATH: `/nowhere:${folder}` }), works)
  t.is(findSanitizer({ PATH: '/nowhere', CUDA_HOME: join(folder, '..', 'nowhere') }), undefined)
  const options = { env: process.env, parallel: 2, secondsEach: 9, seconds: 60 }
  t.is((await sanitize('memcheck', works, 'tests', ['a', 'b'], options)).detail, '2 tests without a fault')
  const broken = await program(t, 'echo "========= Error: no device"; exit 1', 'compute-sanitizer')
  t.like(await sanitize('racecheck', broken, 'tests', ['a', 'b'], options), {
    ok: true,
    detail: 'does not work here: ========= Error: no device',
  })
})

// --- peers -----------------------------------------------------------------------------------------------------------

function makePeers(python: string) {
  const entries: Entry[] = []
  const kept: string[] = []
  const peers = new Peers({
    python,
    settings,
    cpu: false,
    report: (entry) => entries.push(entry),
    keep: (who, line) => kept.push(`${who}| ${line}`),
  })
  return { peers, entries, kept }
}

test('a peer gets ready, waits for its turn, and reports', async (t) => {
  const python = await program(
    t,
    `echo "{\\"ready\\": \\"$2\\"}"; read go
     echo "{\\"row\\": \\"$2\\", \\"by\\": \\"PyTorch\\", \\"failed\\": \\"told to: $go\\"}"; echo noise >&2`,
  )
  const { peers, entries, kept } = makePeers(python)
  peers.prepare('train')
  peers.prepare('train') // once is enough
  await peers.ready(60)
  t.deepEqual(entries, [])
  await peers.measure('train', 60)
  t.deepEqual(entries, [{ row: 'train', by: 'PyTorch', failed: 'told to: go' }])
  t.true(kept.includes('peer train| noise'))
})

test('a peer that is not ready in time is started again when its turn comes', async (t) => {
  const python = await program(
    t,
    'echo started; read go; echo "{\\"row\\": \\"a\\", \\"by\\": \\"b\\", \\"failed\\": \\"c\\"}"',
  )
  const { peers, entries, kept } = makePeers(python)
  peers.prepare('decode')
  await peers.ready(0.2)
  await peers.measure('decode', 60)
  t.is(entries.length, 1)
  t.is(kept.filter((line) => line.endsWith('| started')).length, 2)
})

test('a peer that breaks or hangs is reported', async (t) => {
  const breaks = makePeers(await program(t, 'exit 3'))
  breaks.peers.prepare('vqgan')
  await breaks.peers.ready(60)
  await breaks.peers.measure('vqgan', 60)
  t.deepEqual(breaks.entries, [{ row: 'vqgan', by: 'PyTorch', failed: 'exit code 3' }])
  const hangs = makePeers(await program(t, 'sleep 3600'))
  await hangs.peers.measure('vqgan', 0.1)
  t.regex((hangs.entries[0] as { failed: string }).failed, /stopped after/)
})

test('peers that are not wanted any more end', async (t) => {
  const { peers } = makePeers(await program(t, 'sleep 3600'))
  peers.prepare('train')
  peers.kill()
  await t.notThrowsAsync(peers.ready(60))
})

test('what Python has to offer', async (t) => {
  const has = await program(
    t,
    `echo '{"python": "3.12.3", "torch": "2.11.0", "cuda": "13.0", "device": null, "cublasLt": null}'`,
  )
  t.like(await askAbout(has, 60), { torch: '2.11.0', device: null })
  const without = await program(t, 'echo "some warning" >&2; exit 1')
  t.deepEqual(await askAbout(without, 60), { missing: `${without}: exit code 1: some warning` })
  t.regex(((await askAbout('/nowhere/python3', 60)) as { missing: string }).missing, /ENOENT/)
})
