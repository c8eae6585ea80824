import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { encodePng, SafetensorsFile } from '../../lib/index.ts'
import { putTar } from '../data/make-data.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { characters, picture } from '../sampler/bundle.ts'
import { cli, pictureFolder, smallTraining } from './helpers.ts'

/** A tar shard of pictures other than those of pictureFolder. */
async function pictureTar(folder: string): Promise<string> {
  const entries: [string, string | Uint8Array][] = []
  for (let i = 0; i < 8; i++) {
    entries.push(
      [`${i}.png`, await encodePng(picture(100 + i))],
      [`${i}.txt`, characters[i % characters.length]!],
    )
  }
  return putTar(folder, 'more.tar', entries)
}

async function configFile(folder: string): Promise<string> {
  const path = join(folder, 'config.json')
  await writeFile(path, JSON.stringify(smallTraining))
  return path
}

async function setting(t: ExecutionContext) {
  const pictures = await pictureFolder(t, 10)
  const folder = await temporaryFolder(t)
  const tar = await pictureTar(folder)
  const config = await configFile(folder)
  const args = ['train', '--data', `${pictures}=2`, tar, '--config', config, '--held-out', '0.2', '--json']
  return { pictures, folder, tar, config, args }
}

const weights = (out: string) => readFile(join(out, 'run', 'generator', 'model', 'weights.safetensors'))

test('training on several sources goes on bit for bit after every step', async (t) => {
  const { folder, args } = await setting(t)
  const [whole, parts] = [join(folder, 'whole'), join(folder, 'parts')]
  const once = await cli([...args, '--out', whole, '--shuffle', '3'])
  t.is(once.code, 0, once.stderr)
  let runs = 0
  for (let code = 3; code === 3; runs++) {
    ;({ code } = await cli([...args, '--out', parts, '--shuffle', '3', '--minutes', '1e-9']))
    t.true(code === 0 || code === 3)
  }
  t.true(runs > 6, `${runs} runs`)
  t.deepEqual(await weights(parts), await weights(whole))
  const other = await cli([...args, '--out', parts, '--shuffle', '4'])
  t.is(other.code, 1)
  t.regex(other.stderr, /data\.shuffle was 3, is 4.*train --force/)
})

test('a run goes on with other data only by force', async (t) => {
  const { pictures, tar, folder, args, config } = await setting(t)
  const out = join(folder, 'out')
  t.is((await cli([...args, '--out', out, '--minutes', '1e-9'])).code, 3)
  const others = ['train', '--data', tar, '--config', config, '--out', out, '--json']
  const refused = await cli(others)
  t.is(refused.code, 1)
  t.regex(refused.stderr, /data\.sources was .*\(ERR_VILG_INVALID_ARGUMENT\)/)
  // killed again before the first step of the new data: the old state is not taken for that of the new data
  for (const more of [['--minutes', '1e-9'], []]) {
    const forced = await cli([...others, '--force', ...more])
    t.is(forced.code, more.length === 0 ? 0 : 3, forced.stderr)
  }
  const log = await readFile(join(out, 'run', 'image-tokenizer', 'log.jsonl'), 'utf8')
  const steps = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; step: number })
  t.deepEqual(
    steps.filter(({ type }) => type === 'step').map(({ step }) => step),
    [1, 2, 3, 4],
  )
  t.regex((await cli(['train', '--data', `${pictures}=0`, '--out', out])).stderr, /weight above 0/)
})

test('training on codes takes their image tokenizer, and no other', async (t) => {
  const { pictures, tar, folder, args, config } = await setting(t)
  const [first, second] = [join(folder, 'first'), join(folder, 'second')]
  t.is((await cli([...args, '--out', first])).code, 0)
  const codes = join(folder, 'codes')
  const tokenizer = first // the bundle, whose image tokenizer is rounded to bfloat16: not the one of its run
  t.is((await cli(['tokenize', pictures, '--model', tokenizer, '--out', codes])).code, 0)
  const generatorConfig = join(folder, 'generator.json')
  await writeFile(generatorConfig, JSON.stringify({ generator: smallTraining.generator }))
  const base = [
    'train',
    '--data',
    `${codes}=3`,
    '--held-out',
    '0.3',
    '--config',
    generatorConfig,
    '--out',
    second,
  ]
  const without = await cli(base)
  t.is(without.code, 1)
  t.regex(without.stderr, /Expected --image-tokenizer with the codes/)
  const done = await cli([...base, '--data', tar, '--image-tokenizer', tokenizer])
  t.is(done.code, 0, done.stderr)
  const only = await cli([...base.slice(0, -1), join(folder, 'third'), '--image-tokenizer', tokenizer])
  t.is(only.code, 0, only.stderr)
  t.regex(only.stdout, /all data is codes already/)
  const both = await cli([...base, '--config', config, '--image-tokenizer', tokenizer])
  t.regex(both.stderr, /no section imageTokenizer/)

  const other = join(folder, 'other')
  await mkdir(other)
  const changed = { ...smallTraining, imageTokenizer: { ...smallTraining.imageTokenizer, seed: 99 } }
  await writeFile(config, JSON.stringify(changed))
  t.is((await cli([...args, '--out', other, '--stage', 'image-tokenizer'])).code, 0)
  const wrong = join(other, 'run', 'image-tokenizer', 'model')
  const refused = await cli([...base.slice(0, -1), join(folder, 'fourth'), '--image-tokenizer', wrong])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /are of another one.*\(ERR_VILG_CHECKPOINT_INCOMPATIBLE\)/)
})

test('a bundle is trained on: its vocabulary and image tokenizer stay', async (t) => {
  const { folder, args, pictures } = await setting(t)
  const [first, second] = [join(folder, 'first'), join(folder, 'second')]
  t.is((await cli([...args, '--out', first])).code, 0)
  const frozen = { weights: ['blocks.0.*', '*_embedding.weight'], learningRateScale: 0 }
  const config = join(folder, 'tune.json')
  const { model: _, ...generator } = smallTraining.generator
  await writeFile(
    config,
    JSON.stringify({ generator: { ...generator, training: { warmupSteps: 1, groups: [frozen] } } }),
  )
  const tune = ['train', '--data', pictures, '--from', first, '--config', config, '--json']
  const done = await cli([...tune, '--out', second])
  t.is(done.code, 0, done.stderr)
  for (const name of ['text-tokenizer/vocab.txt', 'image-tokenizer/weights.safetensors'])
    t.deepEqual(await readFile(join(second, name)), await readFile(join(first, name)), name)

  await using before = await SafetensorsFile.open(join(first, 'generator/weights.safetensors'))
  await using after = await SafetensorsFile.open(join(second, 'generator/weights.safetensors'))
  for (const name of before.tensors.keys()) {
    const same = Buffer.from((await before.readFloat32(name)).buffer).equals(
      Buffer.from((await after.readFloat32(name)).buffer),
    )
    t.is(same, name.startsWith('blocks.0.') || name.includes('_embedding.'), name)
  }

  // another generator to begin with is another run
  const other = join(folder, 'other')
  t.is((await cli([...args, '--out', other, '--seed', '2'])).code, 0)
  const refused = await cli([...tune.map((one) => (one === first ? other : one)), '--out', second])
  t.not(refused.code, 0)
  const both = await cli([...tune, '--image-tokenizer', first, '--out', second])
  t.regex(both.stderr, /--from or --image-tokenizer, received both/)
  await writeFile(config, JSON.stringify(smallTraining))
  t.regex((await cli([...tune, '--out', second])).stderr, /no section (imageTokenizer|generator.model)/)
  await writeFile(config, JSON.stringify({ text: { vocabularySize: 9 } }))
  t.regex((await cli([...tune, '--out', second])).stderr, /no section text/)
  t.regex(
    (await cli([...tune.map((one) => (one === first ? folder : one)), '--out', second])).stderr,
    /bundle/,
  )
})
