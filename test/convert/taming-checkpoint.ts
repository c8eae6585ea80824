import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { SafetensorsFile } from '../../lib/index.ts'
import { dict, float, global, newObject, orderedDict, type Py } from '../checkpoint/writers/pickle.ts'
import { Storages, torchLegacy, torchZip } from '../checkpoint/writers/torch.ts'
import { fixture, temporaryFolder } from '../model/helpers.ts'

/** The fixtures. */
export const names = ['taming-vqgan-tiny', 'taming-gumbel-tiny'] as const
export type Name = (typeof names)[number]

/** What differs from the fixture. */
export interface Making {
  legacy?: boolean
  prefix?: string
  change?: (state: Map<string, Py>, storages: Storages) => void
}

/** The weights of a fixture as a checkpoint of Lightning, with a discriminator, an optimizer and callbacks beside them. */
export async function checkpoint(
  name: Name,
  { legacy = false, prefix = '', change }: Making = {},
): Promise<Uint8Array> {
  await using file = await SafetensorsFile.open(fixture(`${name}/weights.safetensors`))
  const storages = new Storages({ legacy })
  const state = new Map<string, Py>()
  for (const [key, { shape }] of file.tensors) {
    const storage = storages.add('FloatStorage', await file.readFloat32(key))
    state.set(prefix + key, storages.tensor(storage, shape))
  }
  const extra = storages.tensor(storages.add('FloatStorage', Float32Array.of(1, 2)), [2])
  state.set('loss.discriminator.main.0.weight', extra)
  change?.(state, storages)
  const root = dict([
    ['epoch', 3],
    ['pytorch-lightning_version', '1.0.8'],
    [
      'callbacks',
      dict([[global('pytorch_lightning.callbacks', 'ModelCheckpoint'), dict({ best: float(0.5) })]]),
    ],
    ['optimizer_states', [dict({ state: dict([[0, dict({ exp_avg: extra })]]) })]],
    [
      'hyper_parameters',
      newObject(global('omegaconf.dictconfig', 'DictConfig'), dict({ _content: dict({}) })),
    ],
    ['state_dict', orderedDict([...state])],
  ])
  return legacy ? torchLegacy(root, storages.all) : torchZip(root, storages.all)
}

/** The `configs/*.yaml` of a fixture. */
export const yaml = (name: Name, changes: Record<string, string> = {}) => {
  const fields: Record<string, string> = {
    double_z: 'false',
    z_channels: '16',
    resolution: '32',
    in_channels: '3',
    out_ch: '3',
    ch: '32',
    ch_mult: '[1, 2, 2]',
    num_res_blocks: '1',
    attn_resolutions: '[8]',
    dropout: '0.0',
    ...changes,
  }
  const [size, dim] = name === 'taming-gumbel-tiny' ? [48, 16] : [40, 12]
  const lines = Object.entries(fields).map(([key, value]) => `      ${key}: ${value}`)
  const head = [
    'model:',
    '  base_learning_rate: 4.5e-06',
    '  target: taming.models.vqgan.VQModel',
    '  params:',
  ]
  return [...head, `    embed_dim: ${dim}`, `    n_embed: ${size}`, '    ddconfig:', ...lines, ''].join('\n')
}

/** A folder with both files, and a path for the model. */
export async function files(t: ExecutionContext, weights: Uint8Array, config = yaml(names[0])) {
  const folder = await temporaryFolder(t)
  const at = {
    weights: join(folder, 'last.ckpt'),
    config: join(folder, 'model.yaml'),
    to: join(folder, 'vqgan'),
  }
  await writeFile(at.weights, weights)
  await writeFile(at.config, config)
  return { folder, ...at }
}
