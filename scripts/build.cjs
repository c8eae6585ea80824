#!/usr/bin/env node
'use strict'
// The one native build. npm's install script, binding.gyp and prebuildify all end here.
const { spawnSync } = require('node:child_process')
const { rmSync } = require('node:fs')
const path = require('node:path')

const root = path.resolve(__dirname, '..')

/** Builds the addon (and, with `tests`, the native tests) through cmake-js; returns the exit status. */
function build({ defines = {}, tests = false } = {}) {
  const cli = path.join(path.dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js')
  // node-gyp owns build/Makefile, so cmake gets a folder of its own
  const folders = ['-d', root, '-O', path.join(root, 'build', 'cmake')]
  const options = { ...defines, ...(tests ? { VILG_TESTS: 'ON' } : {}) }
  // VILG_CUDA=ON npm install, and what else docs/cuda.md and bench/README.md name
  for (const name of ['VILG_CUDA', 'VILG_CUDA_ARCHS', 'VILG_EMULATION_ARCH']) {
    if (process.env[name]) options[name] = process.env[name]
  }
  const args = Object.entries(options).map(([name, value]) => `--CD${name}=${value}`)
  const env = { ...process.env }
  // set when node-gyp's make calls this script; they would reach cmake's own make
  for (const name of ['MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'MAKEOVERRIDES']) delete env[name]
  // `build` configures only where nothing is configured yet: options would come too late
  const commands = args.length > 0 ? ['configure', 'build'] : ['build']
  for (const command of commands) {
    const all = [cli, command, ...folders, ...args]
    const { status } = spawnSync(process.execPath, all, { stdio: 'inherit', cwd: root, env })
    if (status !== 0) return status ?? 1
  }
  return 0
}

module.exports = build

if (require.main === module) {
  // prebuildify calls: build.cjs rebuild --target=.. --devdir=.. --arch=.. --release
  // cmake knows what is out of date; what comes of it is made anew in any case
  if (process.argv.includes('rebuild'))
    rmSync(path.join(root, 'build', 'Release'), { recursive: true, force: true })
  process.exit(build({ tests: process.argv.includes('--tests') }))
}
