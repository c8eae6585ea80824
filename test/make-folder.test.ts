import { execFile } from 'node:child_process'
import { mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { makeFolder } from '../lib/make-folder.ts'
import { refuses, temporaryFolder } from './model/helpers.ts'

const isFolder = async (path: string) => (await stat(path)).isDirectory()

test('a folder is made with those that it lies in; one that is there stays as it is', async (t) => {
  const root = await temporaryFolder(t)
  const path = join(root, 'a', 'b', 'c')
  await makeFolder(path)
  await writeFile(join(path, 'file'), 'x')
  await makeFolder(path)
  t.deepEqual(await readdir(path), ['file'])
  await makeFolder(join(root, 'd', 'e') + '/')
  t.true(await isFolder(join(root, 'd', 'e')))
  await makeFolder(relative(process.cwd(), join(root, 'f', 'g')))
  t.true(await isFolder(join(root, 'f', 'g')))
  for (const there of ['/', '.']) await t.notThrowsAsync(makeFolder(there), there)
})

test('a link to a folder is one', async (t) => {
  const root = await temporaryFolder(t)
  await mkdir(join(root, 'real'))
  await symlink(join(root, 'real'), join(root, 'link'))
  await makeFolder(join(root, 'link'))
  await makeFolder(join(root, 'link', 'a', 'b'))
  t.true(await isFolder(join(root, 'real', 'a', 'b')))
})

test('many may make the same folders at once', async (t) => {
  const root = await temporaryFolder(t)
  const paths = Array.from({ length: 64 }, (_, i) => join(root, 'a', 'b', 'c', 'd', `e${i % 2}`))
  await Promise.all(paths.map(makeFolder))
  t.deepEqual((await readdir(join(root, 'a', 'b', 'c', 'd'))).sort(), ['e0', 'e1'])
})

test('what cannot be a folder is an error with the reason', async (t) => {
  const root = await temporaryFolder(t)
  await writeFile(join(root, 'file'), 'x')
  for (const path of ['file', 'file/below']) {
    const error = await refuses(t, makeFolder(join(root, path)), 'ERR_VILG_IO', path, /EEXIST|ENOTDIR/)
    t.is(error.details!['path'], join(root, path))
  }
  await symlink(join(root, 'nowhere'), join(root, 'dangling'))
  for (const path of ['dangling', 'dangling/below']) {
    await refuses(t, makeFolder(join(root, path)), 'ERR_VILG_IO', path, 'EEXIST')
  }
  await refuses(t, makeFolder(''), 'ERR_VILG_IO', 'ENOENT')
})

// A mkdir that never ends keeps its thread, and with it the process, from ending: so in a process that can be killed.
const onLinux = process.platform === 'linux' ? test : test.skip
onLinux('below /proc it ends, in whatever makes folders', async (t) => {
  const root = new URL('..', import.meta.url)
  const script = `
    import { makeFolder } from './lib/make-folder.ts'
    import { TextTokenizer, writePng } from './lib/index.ts'
    import { RunFolder } from './lib/trainer/run-folder.ts'
    const tokenizer = TextTokenizer.fromVocabulary(['[PAD]', '[UNK]', '[CLS]', '[SEP]'])
    const calls = {
      makeFolder: () => makeFolder('/proc/nowhere/deep/down'),
      tokenizerFolder: () => tokenizer.save('/proc/nowhere'),
      tokenizerFile: () => tokenizer.save('/proc/nowhere/vocab.txt'),
      picture: () => writePng('/proc/nowhere/a.png', new Uint8Array(3), 1, 1),
      run: () => RunFolder.open('/proc/nowhere', {}),
    }
    for (const [name, call] of Object.entries(calls)) {
      console.log(name, await call().then(() => 'made', (error) => error.code + ' ' + error.message))
    }`
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', script],
    { cwd: root, timeout: 60_000, killSignal: 'SIGKILL' },
  )
  const lines = stdout.trimEnd().split('\n')
  t.is(lines.length, 5, stdout)
  for (const line of lines) t.regex(line, /^\w+ ERR_VILG_IO .*\/proc\/nowhere.*ENOENT/)
})
