'use strict'
// tsc does not copy hand-written declarations: what dist/lib imports as ../../types/*.d.ts must lie in dist/types.
const { cpSync, readdirSync } = require('node:fs')
const path = require('node:path')

const root = path.resolve(__dirname, '..')
const from = path.join(root, 'types')
if (!readdirSync(from).some((name) => name.endsWith('.d.ts')))
  throw new Error('no declarations found under types/')
cpSync(from, path.join(root, 'dist', 'types'), { recursive: true })
