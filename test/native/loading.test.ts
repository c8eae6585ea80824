import { execFile } from 'node:child_process'
import { copyFile, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'

const require = createRequire(import.meta.url)
const addon = (require('node-gyp-build') as { resolve: (folder: string) => string }).resolve(process.cwd())

/** A package of our name with lib/ and an addon as given, in which `code` runs; its standard output. */
async function inPackage(
  code: string,
  {
    file,
    version,
    env = {},
  }: { file?: string | Buffer; version?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-loading-'))
  try {
    await cp('lib', join(folder, 'lib'), { recursive: true })
    await cp('types', join(folder, 'types'), { recursive: true })
    await symlink(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'))
    const manifest = JSON.parse(await readFile('package.json', 'utf8')) as Record<string, unknown>
    await writeFile(
      join(folder, 'package.json'),
      JSON.stringify({ ...manifest, version: version ?? manifest['version'] }),
    )
    if (file !== undefined) {
      await mkdir(join(folder, 'build/Release'), { recursive: true })
      const target = join(folder, 'build/Release/vilg.node')
      await (typeof file === 'string' ? copyFile(file, target) : writeFile(target, file))
    }
    const script = `
      const { native } = await import('./lib/native/binding.ts')
      const { backendInfo } = await import('./lib/backend-info.ts')
      const report = (error) => console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message }))
      try { ${code} } catch (error) { report(error); try { native() } catch (again) { console.log(again === error) } }
    `
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import=tsx', '--input-type=module', '-e', script],
      {
        cwd: folder,
        timeout: 60_000,
        env: { ...process.env, ...env },
      },
    )
    return stdout
  } finally {
    await rm(folder, { recursive: true })
  }
}

test('no build at all: says what to run', async (t) => {
  const output = await inPackage('native()')
  t.regex(output, /ERR_VILG_NATIVE_LOAD/)
  t.regex(output, /no native build/)
  t.regex(output, /npm rebuild ernie-vilg/)
  t.regex(output, /\ntrue\n$/) // the same error at the next call
})

test('a file that is no library', async (t) => {
  const output = await inPackage('native()', { file: Buffer.from('not a library') })
  t.regex(output, /ERR_VILG_NATIVE_LOAD/)
  t.regex(output, /cannot be loaded/)
  t.regex(output, /build-from-source/)
})

test('an addon of another version', async (t) => {
  const output = await inPackage('native()', { file: addon, version: '99.0.0' })
  t.regex(output, /ERR_VILG_NATIVE_LOAD/)
  t.regex(output, /belongs to version .* the package is 99\.0\.0/)
})

test('the environment sets threads and instruction set, and is checked', async (t) => {
  const info = 'const { threads, isa } = backendInfo(); console.log(threads, isa)'
  t.is(
    await inPackage(info, { file: addon, env: { VILG_THREADS: '3', VILG_ISA: '' } }),
    `3 ${await bestIsa()}\n`,
  )
  for (const threads of ['0', 'many', '1.5', '2000']) {
    const output = await inPackage('native()', { file: addon, env: { VILG_THREADS: threads } })
    t.regex(output, /ERR_VILG_INVALID_ARGUMENT.*VILG_THREADS/)
  }
  const output = await inPackage('native()', { file: addon, env: { VILG_ISA: 'x86-64-v9' } })
  t.regex(output, /ERR_VILG_UNSUPPORTED.*instruction set of this machine/)
})

async function bestIsa(): Promise<string> {
  const { native } = await import('../../lib/native/binding.ts')
  return native().backendInfo().isas.at(-1)!
}
