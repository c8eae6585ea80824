import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import {
  convertCheckpoint,
  type ConvertOptions,
  ImageTokenizer,
  SafetensorsFile,
  streamedTensor,
  streamSafetensors,
  openCheckpoint,
} from '../../lib/index.ts'
import { dict } from '../checkpoint/writers/pickle.ts'
import { torchZip } from '../checkpoint/writers/torch.ts'
import { cli, cliJson } from '../cli/helpers.ts'
import { fixture, floats, relativeError } from '../model/helpers.ts'
import { checkpoint, files, type Making, names, yaml } from './taming-checkpoint.ts'

for (const name of names) {
  for (const legacy of [false, true]) {
    test(`${name}, ${legacy ? 'legacy' : 'zip'}: the reference's tokens and pictures`, async (t) => {
      const { weights, config, to } = await files(t, await checkpoint(name, { legacy }), yaml(name))
      const report = await convertCheckpoint({ weights, config, to })
      t.like(report, { kind: 'taming-vqgan', prefix: 'state_dict.', to, notes: [] })
      t.deepEqual(report.unused, [
        'optimizer_states.0.state.0.exp_avg',
        'state_dict.loss.discriminator.main.0.weight',
      ])
      const original = JSON.parse(await readFile(fixture(`${name}/config.json`), 'utf8')) as object
      t.deepEqual(report.config, { ...original, wavelet: false })
      t.deepEqual((await readdir(to)).sort(), ['config.json', 'weights.safetensors'])

      await using file = await SafetensorsFile.open(join(to, 'weights.safetensors'))
      await using weightsFile = await SafetensorsFile.open(fixture(`${name}/weights.safetensors`))
      t.is(report.tensors, weightsFile.tensors.size)
      t.deepEqual([...file.tensors.keys()].sort(), [...weightsFile.tensors.keys()].sort())

      await using tokenizer = await ImageTokenizer.load(to)
      await using expected = await SafetensorsFile.open(fixture(`${name}/expected.safetensors`))
      const { indices } = await tokenizer.encode(await floats(expected, 'image'))
      t.deepEqual([...indices], [...(await expected.read('indices'))].map(Number))
      const error = relativeError(await tokenizer.decode(indices), await floats(expected, 'reconstruction'))
      t.true(error < 1e-5, String(error))
    })
  }
}

test('without its configuration: sizes from the weights, the usual resolution, which is said', async (t) => {
  const { weights, to, folder } = await files(t, await checkpoint('taming-vqgan-tiny'))
  const report = await convertCheckpoint({ weights, to })
  t.like(report.config, {
    resolution: 256,
    multipliers: [1, 2, 2],
    attentionResolutions: [64],
    codebookSize: 40,
  })
  t.is(report.notes.length, 1)
  t.regex(report.notes[0]!, /resolution 256/)
  const other = await convertCheckpoint({ weights, to: join(folder, 'other'), resolution: 32 })
  t.like(other.config, { resolution: 32, attentionResolutions: [8] })
  t.deepEqual(other.notes, [])
})

test('halves stay halves, doubles become floats, a safetensors file is as good', async (t) => {
  const half = await checkpoint('taming-vqgan-tiny', {
    change(state, storages) {
      const bias = storages.add('HalfStorage', new Uint16Array(12).fill(0x3c00))
      state.set('quant_conv.bias', storages.tensor(bias, [12]))
      const double = storages.add('DoubleStorage', new Float64Array(16).fill(0.5))
      state.set('post_quant_conv.bias', storages.tensor(double, [16]))
    },
  })
  const { weights, to, folder } = await files(t, half)
  await convertCheckpoint({ weights, to, resolution: 32 })
  await using file = await SafetensorsFile.open(join(to, 'weights.safetensors'))
  t.is(file.tensors.get('quant_conv.bias')?.dtype, 'F16')
  t.deepEqual(await file.read('post_quant_conv.bias'), new Float32Array(16).fill(0.5))
  await using tokenizer = await ImageTokenizer.load(to)
  t.is(tokenizer.grid, 8)

  await using source = await openCheckpoint(weights)
  const bare = join(folder, 'bare.safetensors')
  await streamSafetensors(
    bare,
    source.names.map((name) => streamedTensor(source, name, { name: name.replace('state_dict.', '') })),
  )
  const report = await convertCheckpoint({ weights: bare, to: join(folder, 'b'), resolution: 32 })
  t.is(report.prefix, '')
})

test('a file of two models needs to be told which', async (t) => {
  const bytes = await checkpoint('taming-vqgan-tiny', {
    prefix: 'first_stage_model.',
    change(state) {
      for (const [key, tensor] of [...state]) {
        if (key.startsWith('first_')) state.set(key.replace('first_', 'cond_'), tensor)
      }
    },
  })
  const params = yaml('taming-vqgan-tiny')
    .split('\n')
    .slice(4)
    .map((line) => `    ${line}`)
  const config = ['model:', '  params:', '    first_stage_config:', '      params:', ...params].join('\n')
  const at = await files(t, bytes, config)
  const error = await t.throwsAsync(convertCheckpoint({ weights: at.weights, to: at.to }), {
    code: 'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    message: /one model.*found 2: "state_dict\.first_stage_model\.", "state_dict\.cond_stage_model\."/,
  })
  t.truthy(error)
  const prefix = 'state_dict.first_stage_model.'
  const report = await convertCheckpoint({ weights: at.weights, to: at.to, config: at.config, prefix })
  t.like(report, { prefix, config: { resolution: 32 } })
})

test('what does not fit is named, and leaves no folder', async (t) => {
  const name = 'taming-vqgan-tiny'
  const set = (key: string, shape: number[]): Making => ({
    change(state, storages) {
      const length = shape.reduce((product, dim) => product * dim, 1)
      state.set(key, storages.tensor(storages.add('FloatStorage', new Float32Array(length)), shape))
    },
  })
  const without = (key: string): Making => ({ change: (state) => void state.delete(key) })
  const good = await checkpoint(name)
  const incompatible = 'ERR_VILG_CHECKPOINT_INCOMPATIBLE'
  const cases: [
    what: string,
    weights: Uint8Array,
    config: string,
    options: Partial<ConvertOptions>,
    code: string,
    text: RegExp,
  ][] = [
    [
      'a missing bias',
      await checkpoint(name, without('decoder.up.1.block.0.conv1.bias')),
      yaml(name),
      {},
      incompatible,
      /1 of them missing: decoder\.up\.1\.block\.0\.conv1\.bias/,
    ],
    [
      'a missing codebook',
      await checkpoint(name, without('quantize.embedding.weight')),
      yaml(name),
      {},
      incompatible,
      /model of a known family .*VQGAN/,
    ],
    [
      'another shape',
      await checkpoint(name, set('decoder.conv_out.weight', [12, 32, 3, 3])),
      yaml(name),
      {},
      incompatible,
      /decoder\.conv_out\.weight: expected shape \[3, 32, 3, 3\].*found \[12, 32, 3, 3\]/,
    ],
    [
      'a codebook of three dimensions',
      await checkpoint(name, set('quantize.embedding.weight', [40, 12, 1])),
      yaml(name),
      {},
      incompatible,
      /expected 2 dimensions/,
    ],
    [
      'odd channels',
      await checkpoint(name, set('encoder.down.1.block.0.conv1.weight', [48, 32, 3, 3])),
      yaml(name),
      {},
      incompatible,
      /multiples of 32.*found 48 at level 1/,
    ],
    [
      'no channels',
      await checkpoint(name, set('encoder.conv_in.weight', [0, 3, 3, 3])),
      yaml(name),
      {},
      incompatible,
      /multiples of 0/,
    ],
    [
      'codes in use',
      await checkpoint(name, set('quantize.used', [4])),
      yaml(name),
      {},
      'ERR_VILG_UNSUPPORTED',
      /quantize\.used/,
    ],
    [
      'another configuration',
      good,
      yaml(name, { ch_mult: '[1, 2, 4]' }),
      {},
      incompatible,
      /ch_mult \[1,2,2\].*found \[1,2,4\]/,
    ],
    [
      'another attention',
      good,
      yaml(name, { attn_resolutions: '[16]' }),
      {},
      incompatible,
      /attn_resolutions \[8\].*found \[16\]/,
    ],
    ['a configuration of something else', good, 'a: 1', {}, incompatible, /model\.params\.ddconfig/],
    [
      'a configuration that is no object',
      good,
      '- 1',
      {},
      'ERR_VILG_CHECKPOINT_FORMAT',
      /object in .*model\.yaml/,
    ],
    ['no YAML', good, 'a: [', {}, 'ERR_VILG_CHECKPOINT_FORMAT', /YAML in .*model\.yaml/],
    ['an odd resolution', good, yaml(name), { resolution: 30 }, incompatible, /multiples of 4.*found 30/],
    ['no such prefix', good, yaml(name), { prefix: 'ema.' }, incompatible, /under "ema\."/],
    [
      'another family',
      torchZip(dict({ a: 1 }), []),
      yaml(name),
      {},
      incompatible,
      /known family.*found 0 tensors/,
    ],
    ['not a kind', good, yaml(name), { from: 'gan' as never }, 'ERR_VILG_INVALID_ARGUMENT', /taming-vqgan/],
    [
      'an unknown option',
      good,
      yaml(name),
      { verbose: true } as never,
      'ERR_VILG_INVALID_ARGUMENT',
      /verbose/,
    ],
  ]
  for (const [what, weights, config, options, code, text] of cases) {
    const at = await files(t, weights, config)
    const error = await t.throwsAsync(
      convertCheckpoint({ weights: at.weights, config: at.config, to: at.to, ...options }),
      undefined,
      what,
    )
    t.is((error as { code?: string })?.code, code, `${what}: ${error?.message}`)
    t.regex(error!.message, text, what)
    t.deepEqual((await readdir(at.folder)).sort(), ['last.ckpt', 'model.yaml'], what)
  }
})

test('a conversion that ends early leaves no folder; one that is there is not touched', async (t) => {
  const at = await files(t, await checkpoint('taming-vqgan-tiny'))
  const options = { weights: at.weights, config: at.config, to: at.to }
  const stopping = new AbortController()
  const stop = { signal: stopping.signal, onProgress: () => stopping.abort(new Error('stopped')) }
  await t.throwsAsync(convertCheckpoint({ ...options, ...stop }), { message: 'stopped' })
  t.deepEqual((await readdir(at.folder)).sort(), ['last.ckpt', 'model.yaml'])
  await convertCheckpoint(options)
  await t.throwsAsync(convertCheckpoint(options), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
    message: /not there yet/,
  })
  await t.throwsAsync(convertCheckpoint({ ...options, to: at.weights }), {
    code: 'ERR_VILG_INVALID_ARGUMENT',
  })
  t.deepEqual((await readdir(at.folder)).sort(), ['last.ckpt', 'model.yaml', 'vqgan'])
})

test('a killed process leaves no folder, and the next conversion makes it', async (t) => {
  const at = await files(t, await checkpoint('taming-vqgan-tiny'))
  const script = fileURLToPath(new URL('killed.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', script, at.weights, at.to], { stdio: 'inherit' })
  const [, signal] = (await once(child, 'exit')) as [number | null, string | null]
  t.is(signal, 'SIGKILL')
  t.false((await readdir(at.folder)).includes('vqgan'))
  await convertCheckpoint({ weights: at.weights, to: at.to, resolution: 32 })
  t.deepEqual((await readdir(at.to)).sort(), ['config.json', 'weights.safetensors'])
})

test('the command line says what it did, and what was not used', async (t) => {
  const at = await files(t, await checkpoint('taming-vqgan-tiny'))
  const args = ['convert', '--from', 'taming-vqgan', '--weights', at.weights, '--config', at.config, '--to']
  const report = await cliJson(t, [...args, at.to])
  t.like(report, { kind: 'taming-vqgan', tensors: 183 })
  const { code, stdout, stderr } = await cli([...args, join(at.folder, 'second')])
  t.is(code, 0, stderr)
  t.regex(stdout, /second: taming-vqgan, 183 tensors/)
  t.regex(stderr, /not used: state_dict\.loss \(1\)/)
  const again = await cli([...args, at.to])
  t.is(again.code, 1)
  t.regex(again.stderr, /not there yet.*ERR_VILG_INVALID_ARGUMENT/)
})
