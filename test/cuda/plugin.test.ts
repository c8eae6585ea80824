// How the plugin is found, and what is said where it cannot be used.
import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import type { BackendInfo } from '../../lib/index.ts'
import { emulatedPlugin } from './emulated.ts'

/** backendInfo() of a process of its own with that plugin. */
async function infoWith(plugin: string): Promise<BackendInfo> {
  const script = `
    const { backendInfo } = await import('./lib/index.ts')
    console.log(JSON.stringify(backendInfo()))`
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import=tsx', '--input-type=module', '-e', script],
    { env: { ...process.env, VILG_CUDA_PLUGIN: plugin }, timeout: 60_000 },
  )
  return JSON.parse(stdout) as BackendInfo
}

async function missing(t: ExecutionContext, plugin: string, reason: RegExp): Promise<void> {
  const { device, cuda, fallbackReason } = await infoWith(plugin)
  t.is(device, 'cpu')
  t.is(cuda, null)
  t.regex(fallbackReason!, reason)
}

async function temporary(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-plugin-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

test('switched off', (t) => missing(t, 'off', /switched off by VILG_CUDA_PLUGIN/))

test('a file that is not there', (t) => missing(t, '/nowhere/libvilg_cuda.so', /which is not there/))

test('a file that is no library', async (t) => {
  const file = join(await temporary(t), 'libvilg_cuda.so')
  await writeFile(file, 'no library')
  await missing(t, file, /could not be loaded/)
})

test('a library that is no plugin', async (t) => {
  const file = join(await temporary(t), 'libvilg_cuda.so')
  await copyFile((await import('../../lib/native/binding.ts')).addonFile(), file)
  await missing(t, file, /no function vilg_plugin|could not be loaded/)
})

test('a plugin by a relative path', async (t) => {
  const { cuda } = await infoWith('build/tests/libvilg_cuda_emulated.so')
  t.is(cuda!.plugin, emulatedPlugin)
})

test('a plugin that crashes ends the child alone, and is told of', async (t) => {
  const folder = await temporary(t)
  const [source, file] = [join(folder, 'crash.cc'), join(folder, 'libvilg_cuda.so')]
  await writeFile(source, '__attribute__((constructor)) static void crash() { __builtin_trap(); }')
  await promisify(execFile)('c++', ['-shared', '-fPIC', '-o', file, source])
  await missing(t, file, /ended the process that tried it \(SIG/)
})
