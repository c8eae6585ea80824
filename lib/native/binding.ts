import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

import type { NativeBinding } from '../../types/native.d.ts'
import { VilgError } from '../errors.ts'
import { expectInteger } from '../validate.ts'

/** What the promise of a native task rejects with after its stop flag was raised; call.ts puts the signal's reason in its place. */
export const stopped: object = Object.freeze({ stopped: true })

/** Where the package is installed. */
export interface PackageFolder {
  path: string
  version: string
}

let loaded: NativeBinding | undefined
let loadedFile: string | undefined
let failure: VilgError | undefined

/**
 * The native module, loaded at the first call, so that what needs no native code (tokenizers, the command line's help) works without it.
 *
 * Reads the environment variables `VILG_THREADS` (1 to 1024) and `VILG_ISA` (one of `backendInfo().isas`).
 *
 * @throws VilgError `ERR_VILG_NATIVE_LOAD` with every cause and what to do about it; the same error again at every later call
 */
export function native(): NativeBinding {
  if (loaded) return loaded
  if (failure) throw failure
  const binding = load(packageFolder())
  binding.initialize(VilgError as new (code: never, message: string) => Error, stopped)
  applyEnvironment(binding)
  loaded = binding
  return binding
}

/** The file that {@link native} has loaded. */
export function addonFile(): string {
  native()
  return loadedFile!
}

// lib/native/binding.ts (tsx) and dist/lib/native/binding.js (compiled) are the two places this file is run from.
/** The root of the installed package, and its version. */
export function packageFolder(): PackageFolder {
  for (const up of ['../../', '../../../']) {
    const url = new URL(up, import.meta.url)
    try {
      const { name, version } = JSON.parse(readFileSync(new URL('package.json', url), 'utf8')) as Record<
        string,
        unknown
      >
      if (name === 'ernie-vilg' && typeof version === 'string') return { path: fileURLToPath(url), version }
    } catch {
      // not there: the other one
    }
  }
  throw remember(
    'package.json of ernie-vilg is not where it was installed',
    [],
    ['Install the package again.'],
  )
}

function load({ path, version }: PackageFolder): NativeBinding {
  const require = createRequire(import.meta.url)
  const { resolve } = require('node-gyp-build') as { resolve: (folder: string) => string }
  let file: string
  try {
    file = resolve(path)
  } catch (error) {
    throw remember('there is no native build for this platform', [error], missingAdvice())
  }
  let binding: NativeBinding
  try {
    binding = require(file) as NativeBinding
  } catch (error) {
    throw remember(`${file} cannot be loaded`, [error], loadAdvice(error))
  }
  loadedFile = file
  if (binding.version !== version) {
    const found = String(binding.version)
    throw remember(
      `${file} belongs to version ${found}, the package is ${version}`,
      [],
      ['Build it again: npm rebuild ernie-vilg --build-from-source (in a clone: npm run build:native).'],
    )
  }
  return binding
}

function missingAdvice(): string[] {
  return [
    'If npm was told not to run install scripts (npm 12 asks first): npm install-scripts approve ernie-vilg && npm rebuild ernie-vilg.',
    'If compiling failed during the installation: install a C++20 compiler and CMake 3.20 or later, then npm rebuild ernie-vilg.',
    'In a clone of the repository: npm run build:native.',
  ]
}

function loadAdvice(error: unknown): string[] {
  const text = error instanceof Error ? error.message : String(error)
  const rebuild = 'npm rebuild ernie-vilg --build-from-source'
  if (/GLIBC(XX)?_|CXXABI_/.test(text)) {
    return [`The build needs a newer C or C++ library than this system has. Compile it here: ${rebuild}.`]
  }
  if (/wrong ELF class|invalid ELF header|Exec format|mach-o|not a valid Win32/i.test(text)) {
    return [
      `The build is for another processor or system (was node_modules copied from one?). Compile it here: ${rebuild}.`,
    ]
  }
  if (/cannot open shared object file|Library not loaded/.test(text)) {
    return ['A system library is missing; its name is in the cause. On Debian: apt-get install libstdc++6.']
  }
  return [`Compile it again: ${rebuild}.`]
}

function remember(what: string, causes: unknown[], advice: string[]): VilgError {
  const reasons = causes.map((cause) => (cause instanceof Error ? cause.message : String(cause)))
  const platform = `${process.platform}-${process.arch}, Node ${process.versions.node}`
  const lines = [`Expected the native module for ${platform}, but ${what}.`]
  for (const reason of reasons) lines.push(`  cause: ${reason}`)
  for (const one of advice) lines.push(`  ${one}`)
  failure = new VilgError(
    'ERR_VILG_NATIVE_LOAD',
    lines.join('\n'),
    { platform: process.platform, arch: process.arch, causes: reasons, advice },
    { cause: causes[0] },
  )
  return failure
}

function applyEnvironment(binding: NativeBinding): void {
  const { VILG_THREADS: threads, VILG_ISA: isa } = process.env
  if (threads) {
    binding.setThreads(
      expectInteger('the environment variable VILG_THREADS', Number(threads), { min: 1, max: 1024 }),
    )
  }
  if (isa) binding.setIsa(isa)
}
