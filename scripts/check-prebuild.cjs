'use strict'
// Loads the prebuild with build/ out of the way, as a package without a compiler would, and runs a kernel.
const { existsSync, renameSync } = require('node:fs')
const { spawnSync } = require('node:child_process')
const path = require('node:path')

const root = path.resolve(__dirname, '..')
const build = path.join(root, 'build')
const aside = path.join(root, `build.aside-${process.pid}`)
const program = `
  import { backendInfo, kernels } from '${path.join(root, 'dist/lib/index.js')}'
  const product = await kernels.matmul(Float32Array.of(1, 2), Float32Array.of(3, 4), { m: 1, n: 1, k: 2 })
  if (product[0] !== 11) throw new Error('1 * 3 + 2 * 4 gave ' + product[0])
  console.log('prebuild works on', backendInfo().isa)`

if (existsSync(build)) renameSync(build, aside)
let status
try {
  status = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    stdio: 'inherit',
    cwd: root,
  }).status
} finally {
  if (existsSync(aside)) renameSync(aside, build)
}
process.exit(status ?? 1)
