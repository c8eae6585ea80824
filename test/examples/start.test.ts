import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import sharp from 'sharp'
import { PROMPTS } from '../../examples/start/prompts.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { tinyBundle } from '../sampler/bundle.ts'

const start = (args: readonly string[]) =>
  promisify(execFile)(process.execPath, ['--import', 'tsx', 'examples/start.ts', ...args])

test('npm start draws, describes, and writes a sheet and a page that stands alone', async (t) => {
  const folder = await temporaryFolder(t)
  const model = join(folder, 'model')
  const bundle = await tinyBundle(t, { generator: { textLength: 24 } })
  await bundle.save(model)
  const out = join(folder, 'out')
  const { stdout } = await start(['--model', model, '--out', out, '--count', '3'])
  t.regex(stdout, /sheet: .*sheet\.png/)
  t.regex(stdout, /page: .*index\.html/)
  t.true(PROMPTS.length >= 12)
  const { width, height } = await sharp(join(out, 'sheet.png')).metadata()
  t.true(width! > 4 * 192 && height! > 4 * 192)
  const page = await readFile(join(out, 'index.html'), 'utf8')
  for (const { text } of PROMPTS) t.true(page.includes(text), text)
  t.is(page.match(/<img /g)!.length, PROMPTS.length * 3 + 6)
  t.is(page.match(/src="(?!data:image\/png;base64,)/g), null)
  t.notRegex(page, /<(script|link)|https?:/)
})

test('npm start without a model says how to get one', async (t) => {
  const error = (await t.throwsAsync(start(['--model', join(await temporaryFolder(t), 'none')]))) as Error & {
    code: number
    stderr: string
  }
  t.is(error.code, 1)
  t.regex(error.stderr, /^error: Expected the folder of a bundle.*\(ERR_VILG_IO\)\n$/)
})
