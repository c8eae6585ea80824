import { execFile, spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { temporaryFolder } from '../model/helpers.ts'
import { cli, pictureFolder, savedBundle } from './helpers.ts'

const commands = [
  'generate',
  'caption',
  'answer',
  'train',
  'tokenize',
  'convert',
  'bundle',
  'evaluate',
  'study',
  'info',
]
const main = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url))

test('help names every command; each has help of its own, with an example', async (t) => {
  const { code, stdout, stderr } = await cli(['--help'])
  t.is(code, 0)
  t.is(stderr, '')
  for (const command of commands) {
    t.regex(stdout, new RegExp(`^  ${command} `, 'm'))
    const help = await cli([command, '--help'])
    t.is(help.code, 0)
    t.is(help.stderr, '')
    t.true(help.stdout.startsWith(`Usage: ernie-vilg ${command} `), command)
    t.regex(help.stdout, /--json/)
    t.true(help.stdout.includes(`$ ernie-vilg ${command}`), command)
  }
})

test('the version is that of the package', async (t) => {
  const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string }
  t.deepEqual(await cli(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' })
})

test('wrong usage: exit code 2, one reason on standard error, nothing on standard output', async (t) => {
  const wrong: [string[], RegExp][] = [
    [[], /Usage/],
    [['paint'], /unknown command 'paint'/],
    [['generate'], /no prompt/],
    [['generate', '红', '--cuont', '3'], /unknown option '--cuont'/],
    [['generate', '红', '--count', '0'], /from 1 to 1024/],
    [['generate', '红', '--count', 'NaN'], /from 1 to 1024/],
    [['generate', '红', '--count', ''], /from 1 to 1024/],
    [['generate', '红', '--count', '1.5'], /from 1 to 1024/],
    [['generate', '红', '--count', '2', '--best', '3'], /--best 3/],
    [['generate', '红', '--rerank', 'matcher'], /--best/],
    [['generate', '红', '--best', '1', '--rerank', 'clip'], /matcher, likelihood/],
    [['generate', '红', '--temperature', 'hot'], /number of at least 0/],
    [['generate', '红', '--top-p', '0'], /above 0/],
    [['generate', '红', '--seed', '-1'], /at least 0/],
    [['generate', '红', '绿', '--out', 'a.png'], /one file/],
    [['generate', '红', '--precision', 'int8'], /float32/],
    [['caption'], /images/],
    [['caption', 'a.png', '--count', '3', '--beams', '2'], /--beams 2/],
    [['caption', 'a.png', '--beams', '2', '--seed', '1'], /beam search/],
    [['answer', 'a.png'], /question/],
    [['answer', 'a.png', '什么?', '--count', '3', '--beams', '2'], /--beams 2/],
    [['train', '--data', 'x'], /--out/],
    [['train', '--data', 'x', '--out', 'y', '--size', '48'], /32, 64, 128, 256/],
    [['train', '--data', 'x', '--out', 'y', '--stage', 'all-of-it'], /vocabulary/],
    [['tokenize', 'x'], /--out/],
    [['convert', '--to', 'y'], /--weights/],
    [['convert', '--weights', 'x', '--to', 'y', '--from', 'gan'], /taming-vqgan/],
    [['evaluate'], /--data/],
    [['info', 'something'], /too many arguments/],
  ]
  for (const [args, reason] of wrong) {
    const { code, stdout, stderr } = await cli(args)
    t.is(code, 2, args.join(' '))
    t.is(stdout, '', args.join(' '))
    t.regex(stderr, reason)
    t.notRegex(stderr, /^\s+at /m)
  }
})

test('errors: exit code 1, one line with a code on standard error, the stack only where asked', async (t) => {
  const folder = await temporaryFolder(t)
  const missing = join(folder, 'missing')
  const bad: [string[], RegExp][] = [
    [['generate', '红', '--model', missing], /no .*bundle\.json.*\(ERR_VILG_IO\)/],
    [['generate', '红', '--model', missing, '--json'], /ERR_VILG_IO/],
    [['generate', '--prompts', missing], /missing.*\(ERR_VILG_IO\)/],
    [['generate', '红', '--device', 'cuda'], /\(ERR_VILG_(UNSUPPORTED|IO)\)/],
    [['caption', 'a.png', '--model', missing], /\(ERR_VILG_IO\)/],
    [['answer', 'a.png', '什么?', '--model', missing], /\(ERR_VILG_IO\)/],
    [['train', '--data', missing, '--out', folder], /\(ERR_VILG_IO\)/],
    [['tokenize', missing, '--model', missing, '--out', folder], /\(ERR_VILG_IO\)/],
    [['convert', '--weights', missing, '--to', join(folder, 'new')], /missing.*\(ERR_VILG_IO\)/],
    [['evaluate', '--data', missing, '--model', missing], /\(ERR_VILG_IO\)/],
    [['info', '--model', missing], /\(ERR_VILG_IO\)/],
  ]
  for (const [args, reason] of bad) {
    const { code, stdout, stderr } = await cli(args)
    t.is(code, 1, args.join(' '))
    t.is(stdout, '')
    t.regex(stderr, reason)
    t.regex(stderr, /^error: [^\n]+\n$/)
    t.regex((await cli([...args, '--debug'])).stderr, /^\s+at .*\.ts/m)
  }
})

test('info says what is there, for people and for programs', async (t) => {
  const model = await savedBundle(t)
  const { code, stdout } = await cli(['info', '--model', model])
  t.is(code, 0)
  for (const word of [
    'ernie-vilg',
    'x86-64|arm64|neon',
    'threads',
    'tiny',
    '8 x 8 pixels',
    '4 x 4 image tokens',
  ]) {
    t.regex(stdout, new RegExp(word, 'i'))
  }
  const json = JSON.parse((await cli(['info', '--model', model, '--json'])).stdout) as {
    backend: { threads: number }
    model: {
      name: string
      generator: { parameters: number; config: { grid: number } }
      memoryBytes: Record<string, number>
    }
  }
  t.true(json.backend.threads >= 1)
  t.is(json.model.name, 'tiny')
  const { ErnieVilg } = await import('../../lib/index.ts')
  await using loaded = await ErnieVilg.load(model)
  t.is(json.model.generator.parameters, loaded.generator.parameterCount)
  t.is(json.model.generator.config.grid, 4)
  t.is(
    json.model.memoryBytes['float32'],
    4 * (loaded.generator.parameterCount + loaded.imageTokenizer.parameterCount),
  )
  t.true(json.model.memoryBytes['bfloat16']! < json.model.memoryBytes['float32']!)
  // without a model of its own, it is no error if none ships
  t.is((await cli(['info', '--json'])).code, 0)
})

test('as a program: exit codes', async (t) => {
  const ends = (args: string[]) =>
    new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
      execFile(process.execPath, ['--import', 'tsx', main, ...args], (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : error.code, stdout, stderr }),
      )
    })
  const info = await ends(['info'])
  t.is(info.code, 0, info.stderr)
  t.regex(info.stdout, /^ernie-vilg/)
  t.is((await ends(['paint'])).code, 2)
  t.is((await ends(['answer', 'a', 'b', '--model', 'missing'])).code, 1)
})

test('Ctrl-C ends a training with 130, and the same command goes on', async (t) => {
  const data = await pictureFolder(t, 12)
  const folder = await temporaryFolder(t)
  const config = join(folder, 'config.json')
  const small = {
    imageTokenizer: {
      steps: 100_000,
      batch: 2,
      model: {
        codebookSize: 16,
        latentChannels: 8,
        codebookDim: 4,
        channels: 32,
        multipliers: [1, 1],
        resolution: 32,
      },
    },
  }
  await writeFile(config, JSON.stringify(small))
  const args = [
    'train',
    '--data',
    data,
    '--out',
    join(folder, 'model'),
    '--size',
    '32',
    '--config',
    config,
    '--json',
  ]
  const once = () =>
    new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
      const child = spawn(process.execPath, ['--import', 'tsx', main, ...args])
      let stdout = ''
      let stderr = ''
      child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
      child.stdout.on('data', (data: Buffer) => {
        const before = stdout.includes('"type":"step"')
        stdout += data.toString()
        if (!before && stdout.includes('"type":"step"')) child.kill('SIGINT')
      })
      child.on('close', (code) => resolve({ code, stdout, stderr }))
    })
  const first = await once()
  t.is(first.code, 130, first.stderr)
  t.regex(first.stderr, /saved; the same command goes on/)
  const lines = (text: string) =>
    text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; step?: number })
  const last = lines(first.stdout).findLast(({ type }) => type === 'checkpoint')!.step!
  t.true(last >= 1)
  const second = await once()
  t.is(second.code, 130, second.stderr)
  t.is(lines(second.stdout).find(({ type }) => type === 'resume')!.step, last)
  t.is(lines(second.stdout).find(({ type }) => type === 'step')!.step, last + 1)
})
