// The script as it is called, on the emulated device.
import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'

import type { GpuResult } from '../../../bench/gpu/result.ts'

const emulated = 'build/tests/libvilg_cuda_emulated.so'

interface Outcome {
  code: number
  stdout: string
  stderr: string
}

async function runScript(t: ExecutionContext, plugin: string, ...args: string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-gpu-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const python = join(folder, 'python3')
  await writeFile(python, '#!/bin/sh\necho \'{"python": "3.12.3", "missing": "ModuleNotFoundError"}\'\n')
  await chmod(python, 0o755)
  const all = ['--out', join(folder, 'out'), '--python', python, ...args]
  const env = { ...process.env, VILG_CUDA_PLUGIN: plugin }
  const outcome: Outcome = await promisify(execFile)('scripts/gpu.sh', all, { env }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: Outcome) => error,
  )
  const file = (name: string) => readFile(join(folder, 'out', name), 'utf8')
  return { ...outcome, file }
}

test('some parts, on the emulated device', async (t) => {
  const { code, stdout, stderr, file } = await runScript(
    t,
    emulated,
    ...['--tiny', '--only', 'tests', '--commit', 'abc'],
  )
  t.is(code, 0, stderr)
  t.regex(stdout, /ok {3}device: emulation/)
  t.regex(stdout, /ok {3}instructions are what the emulation takes them for: 1 passed\n/)
  t.regex(stdout, /ok {3}native tests: 2 passed\n/)
  t.regex(stdout, /codebook lookup, 70 vectors.* not measured/)
  t.is(`\n${await file('table.txt')}`, stdout)
  const result = JSON.parse(await file('emulation-on-the-host.json')) as GpuResult
  t.like(result, { git: { commit: 'abc' }, peers: null, device: { emulated: true } })
  t.true(result.command.includes('--only tests'))
  t.is(result.checks.length, 3)
  t.regex(await file('entries.jsonl'), /"row":"\*","by":"PyTorch","failed":"there is no PyTorch/)
  t.regex(await file('log.txt'), /test cuda_add\| ok/)
})

test('without a device there is nothing to measure, and that is said', async (t) => {
  const { code, stdout, file } = await runScript(t, 'off', '--only', 'codebook')
  t.is(code, 1)
  t.regex(stdout, /FAIL device: no CUDA device: CUDA is switched off/)
  await t.throwsAsync(file('emulation-on-the-host.json'), { code: 'ENOENT' })
})

test('the sizes of a GPU are not for an emulated one', async (t) => {
  const { code, stdout } = await runScript(t, emulated, '--only', 'codebook')
  t.is(code, 1)
  t.regex(stdout, /FAIL device: an emulation, which can do no more than --tiny/)
})

test('a part that there is not', async (t) => {
  const { code, stderr } = await runScript(t, emulated, '--only', 'codebok')
  t.is(code, 1)
  t.regex(stderr, /Expected parts among info, ceilings, .*codebook, received codebok/)
  t.notRegex(stderr, /compile/)
})
