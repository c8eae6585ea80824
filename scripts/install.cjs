'use strict'
// npm's install script: a prebuild that fits this machine is used as it is, otherwise the addon is compiled.
const root = require('node:path').resolve(__dirname, '..')

// a stale build/ must not win over the sources: only prebuilds count here, and an up-to-date build costs nothing
process.env.PREBUILDS_ONLY = '1'
if (process.env.npm_config_build_from_source !== 'true') {
  try {
    require('node-gyp-build')(root)
    process.exit(0)
  } catch {
    // no prebuild and no earlier build for this platform: compile
  }
}
process.exit(require('./build.cjs')())
