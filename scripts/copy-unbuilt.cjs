'use strict'
// What tsc does not write and dist needs: hand-written declarations (dist/lib imports ../../types/*.d.ts), and the scripts and styles of
// pages, which are read at run time.
const { cpSync, readdirSync } = require('node:fs')
const path = require('node:path')

const root = path.resolve(__dirname, '..')

function copy(folder, pattern) {
  const names = readdirSync(path.join(root, folder), { recursive: true }).filter((name) => pattern.test(name))
  if (names.length === 0) throw new Error(`no files like ${pattern} found under ${folder}/`)
  for (const name of names) cpSync(path.join(root, folder, name), path.join(root, 'dist', folder, name))
}

copy('types', /\.d\.ts$/)
copy('lib', /\.(js|css)$/)
