'use strict'
// Runs the tests that need a browser, with the one that VILG_TEST_BROWSER names or the first that is found.
const { spawnSync } = require('node:child_process')
const { accessSync, constants } = require('node:fs')
const path = require('node:path')

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'microsoft-edge']
const folders = (process.env.PATH ?? '').split(path.delimiter)

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const found = names.flatMap((name) => folders.map((folder) => path.join(folder, name))).find(isExecutable)
const browser = process.env.VILG_TEST_BROWSER || found
if (!browser) {
  console.error(
    `none of ${names.join(', ')} found: install one, or set VILG_TEST_BROWSER to the path of a Chromium`,
  )
  process.exit(1)
}
const driver = 'playwright-core@1.55.0'
try {
  require.resolve('playwright-core')
} catch {
  console.error(
    `the tests drive the browser by playwright-core, which is no dependency: npm install --no-save ${driver}`,
  )
  process.exit(1)
}
console.log(browser)
const { status } = spawnSync('npx', ['ava', 'test/study/browser.test.ts'], {
  cwd: path.resolve(__dirname, '..'),
  env: { ...process.env, VILG_TEST_BROWSER: browser },
  stdio: 'inherit',
})
process.exit(status ?? 1)
