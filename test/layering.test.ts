import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import test from 'ava'

// Who may know whom (docs/architecture.md): read from the includes and imports themselves.

function sources(folder: string, pattern: RegExp): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .filter((name) => pattern.test(name))
}

/** For each layer of csrc/ the layers that its files may include, besides its own. */
const cppLayers: Record<string, readonly string[]> = {
  core: [],
  kernels: ['core'],
  ref: ['kernels', 'core'],
  cpu: ['kernels', 'core'],
  plugin: ['kernels', 'core'],
  cuda: ['plugin', 'kernels', 'core'],
  autograd: ['kernels', 'core'],
  io: ['kernels', 'core'],
  model: ['autograd', 'io', 'kernels', 'core'],
  train: ['model', 'autograd', 'io', 'kernels', 'core'],
  sample: ['model', 'autograd', 'io', 'kernels', 'core'],
  metrics: ['kernels', 'core'],
  mpi: ['train', 'model', 'autograd', 'io', 'kernels', 'core'],
  napi: ['metrics', 'sample', 'train', 'model', 'autograd', 'io', 'plugin', 'kernels', 'core'],
  tests: [
    'metrics',
    'sample',
    'train',
    'model',
    'autograd',
    'io',
    'plugin',
    'cuda',
    'cpu',
    'ref',
    'kernels',
    'core',
  ],
}

interface Include {
  file: string
  layer: string
  path: string
  quoted: boolean
}

function includesOf(file: string, text: string): Include[] {
  const layer = file.split('/')[1]!
  return [...text.matchAll(/^[ \t]*#[ \t]*include[ \t]+([<"])([^>"]+)[>"]/gm)].map(([, bracket, path]) => ({
    file,
    layer,
    path: path!,
    quoted: bracket === '"',
  }))
}

/** What is wrong with an include; undefined where nothing is. */
function includeFault({ layer, path, quoted }: Include): string | undefined {
  if (/^(node_)?(napi|api)\.h$|^napi-|^node_api|^js_native_api/.test(path) && layer !== 'napi') {
    return 'only csrc/napi may see the Node-API'
  }
  if (/^(cuda(?!\/)|cublas|nccl|curand|mma)/.test(path) && layer !== 'cuda')
    return 'only csrc/cuda may see CUDA headers'
  if (/^omp\.h$|cblas/.test(path)) return 'no OpenMP and no BLAS'
  if (!quoted) return undefined
  const target = path.split('/')[0]!
  if (!path.includes('/') || path.includes('..')) return 'includes of ours are written from csrc/'
  if (!(target in cppLayers)) return `${target} is no layer`
  if (target !== layer && !cppLayers[layer]!.includes(target)) return `${layer} may not know ${target}`
  return undefined
}

test('C++ includes follow the layers', (t) => {
  const files = sources('csrc', /\.(h|cc|cu|cuh|def)$/)
  t.true(files.length > 50, `only ${files.length} files`)
  for (const layer of [
    'core',
    'kernels',
    'ref',
    'cpu',
    'autograd',
    'io',
    'model',
    'metrics',
    'napi',
    'tests',
  ]) {
    t.true(
      files.some((file) => file.startsWith(`csrc/${layer}/`)),
      `no files in csrc/${layer}`,
    )
  }
  const includes = files.flatMap((file) => includesOf(file, readFileSync(file, 'utf8')))
  t.true(includes.filter(({ quoted }) => quoted).length > 100)
  for (const file of files) t.true(file.split('/')[1]! in cppLayers, `${file} lies in no layer`)
  const faults = includes.flatMap((include) => {
    const fault = includeFault(include)
    return fault === undefined ? [] : [`${include.file} includes ${include.path}: ${fault}`]
  })
  t.deepEqual(faults, [])
})

test('the include check finds what it is for', (t) => {
  const bad: [string, string][] = [
    ['csrc/core/a.h', '#include "kernels/matmul.h"'],
    ['csrc/cpu/a.cc', '#include "ref/ref_ops.h"'],
    ['csrc/model/a.cc', '  #  include "cpu/isa.h"'],
    ['csrc/napi/a.cc', '#include "cpu/isa.h"'],
    ['csrc/model/a.cc', '#include <napi.h>'],
    ['csrc/train/a.cc', '#include "napi/wrap.h"'],
    ['csrc/kernels/a.h', '#include <cuda_runtime.h>'],
    ['csrc/io/a.cc', '#include "model/generator.h"'],
    ['csrc/io/a.cc', '#include "json.h"'],
    ['csrc/io/a.cc', '#include "../core/error.h"'],
    ['csrc/cpu/a.cc', '#include <omp.h>'],
  ]
  for (const [file, text] of bad) {
    const [include] = includesOf(file, text)
    t.truthy(include && includeFault(include), `${file}: ${text}`)
  }
  const good = includesOf(
    'csrc/napi/a.cc',
    '#include <napi.h>\n#include "core/error.h"\n#include "napi/wrap.h"',
  )
  t.deepEqual(good.map(includeFault), [undefined, undefined, undefined])
})

interface Import {
  file: string
  /** From the repository's root for our own files, else the package. */
  target: string
  written: string
}

function importsOf(file: string, text: string): Import[] {
  const patterns = [/\bfrom\s+['"]([^'"]+)['"]/g, /\bimport\s*\(?\s*['"]([^'"]+)['"]/g]
  return patterns
    .flatMap((pattern) => [...text.matchAll(pattern)])
    .map(([, written]) => ({
      file,
      written: written!,
      target: written!.startsWith('.')
        ? normalize(join(dirname(file), written!)).replaceAll('\\', '/')
        : written!,
    }))
}

/** What is wrong with an import of a file in lib/; undefined where nothing is. */
function importFault({ file, target, written }: Import): string | undefined {
  if (written.startsWith('.') && !/\.(d\.)?ts$/.test(written)) return 'import paths end in .ts'
  if (written.startsWith('.') && !/^(lib|types)\//.test(target)) return 'lib/ imports lib/ and types/ alone'
  if (target === 'node-gyp-build' || target.endsWith('.node')) return nativeOnly(file)
  if (target.startsWith('lib/cli/') && !file.startsWith('lib/cli/'))
    return 'only lib/cli may know the command line'
  if (target === 'commander' && !file.startsWith('lib/cli/')) return 'only lib/cli may know the command line'
  return undefined
}

function nativeOnly(file: string): string | undefined {
  return file.startsWith('lib/native/')
    ? undefined
    : 'only lib/native loads the addon and reads the environment'
}

/** What is wrong with the text of a file in lib/ besides its imports. */
function textFaults(file: string, text: string): string[] {
  const faults: string[] = []
  if (/\bprocess\.env\b/.test(text) && nativeOnly(file)) faults.push('reads the environment')
  if (/node-gyp-build|\.node['"]|process\.dlopen/.test(text) && nativeOnly(file))
    faults.push('loads an addon')
  if (/\bmkdir(Sync)?\(.*\brecursive\b/.test(text))
    faults.push('makes folders by a recursive mkdir, which may never end, and not by lib/make-folder.ts')
  if (text.split('\n').length > 700) faults.push('is longer than 700 lines')
  return faults
}

test('TypeScript imports follow the layers', (t) => {
  const files = sources('lib', /\.ts$/)
  t.true(files.length > 10, `only ${files.length} files`)
  t.true(files.some((file) => file.startsWith('lib/native/')))
  const imports = files.flatMap((file) => importsOf(file, readFileSync(file, 'utf8')))
  t.true(imports.length > 30)
  const faults = [
    ...imports.flatMap((one) => {
      const fault = importFault(one)
      return fault === undefined ? [] : [`${one.file} imports ${one.written}: ${fault}`]
    }),
    ...files.flatMap((file) =>
      textFaults(file, readFileSync(file, 'utf8')).map((fault) => `${file} ${fault}`),
    ),
  ]
  t.deepEqual(faults, [])
})

test('examples and benchmarks use the public API, not lib/native', (t) => {
  const files = ['examples', 'bench']
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => sources(folder, /\.ts$/).filter((name) => !name.includes('node_modules')))
  const imports = files.flatMap((file) => importsOf(file, readFileSync(file, 'utf8')))
  t.deepEqual(
    imports
      .filter(({ target }) => target.startsWith('lib/native/') || target.startsWith('types/'))
      .map(({ file, written }) => `${file}: ${written}`),
    [],
  )
})

test('the import check finds what it is for', (t) => {
  const bad: [string, string][] = [
    ['lib/kernels.ts', "import build from 'node-gyp-build'"],
    ['lib/model/generator.ts', "const addon = await import('../../build/Release/vilg.node')"],
    ['lib/kernels.ts', "import { x } from './errors'"],
    ['lib/kernels.ts', "import { x } from '../test/x.ts'"],
    ['lib/model/a.ts', "export { run } from '../cli/main.ts'"],
    ['lib/model/a.ts', "import { Command } from 'commander'"],
  ]
  for (const [file, text] of bad) {
    const [one] = importsOf(file, text)
    t.truthy(one && importFault(one), `${file}: ${text}`)
  }
  t.deepEqual(textFaults('lib/kernels.ts', 'const { HOME } = process.env'), ['reads the environment'])
  t.deepEqual(textFaults('lib/native/binding.ts', 'const { HOME } = process.env'), [])
  t.is(textFaults('lib/data/a.ts', 'await mkdir(dirname(path), { recursive: true })').length, 1)
  t.deepEqual(textFaults('lib/data/a.ts', 'await mkdir(path)\nawait rm(path, { recursive: true })'), [])
  t.is(
    importFault(importsOf('lib/kernels.ts', "import { native } from './native/binding.ts'")[0]!),
    undefined,
  )
})

test('native code neither prints nor ends the process', (t) => {
  const files = sources('csrc', /\.(h|cc|cu|cuh)$/).filter((file) => !file.startsWith('csrc/tests/'))
  t.true(files.length > 50)
  const forbidden =
    /\b(std::)?(abort|exit|_exit|quick_exit|terminate|printf|puts|putchar)\s*\(|std::c(out|err|log)\b|\bassert\s*\(/
  const faults = files.flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line, i) =>
        forbidden.test(line.replace(/\/\/.*/, '').replace(/"[^"]*"/g, '""'))
          ? [`${file}:${i + 1}: ${line.trim()}`]
          : [],
      ),
  )
  t.deepEqual(faults, [])
  t.regex('  exit(1);', forbidden)
  t.notRegex('static_assert(true);', forbidden)
})
