'use strict'
// Formats csrc/ with the clang-format of the npm package, or checks it (--check).
const { spawnSync } = require('node:child_process')
const { readdirSync } = require('node:fs')
const path = require('node:path')

const root = path.resolve(__dirname, '..')
const files = readdirSync(path.join(root, 'csrc'), { recursive: true })
  .filter((name) => /\.(h|cc|cu|cuh)$/.test(name))
  .map((name) => path.join(root, 'csrc', name))
if (files.length === 0) throw new Error('no C++ sources found under csrc/')

const program = require('clang-format').getNativeBinary()
const mode = process.argv.includes('--check') ? ['--dry-run', '--Werror'] : ['-i']
const { status } = spawnSync(program, [...mode, ...files], { stdio: 'inherit' })
process.exit(status ?? 1)
