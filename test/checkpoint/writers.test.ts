import { readFile } from 'node:fs/promises'
import test from 'ava'
import { fixture } from '../model/helpers.ts'
import { sampleCheckpoint, Storages, torchLegacy, torchZip } from './writers/torch.ts'

// What the other tests write by hand is what PyTorch writes: the same bytes for the same checkpoint.

test('the zip writer makes the file that PyTorch makes', async (t) => {
  const storages = new Storages()
  const root = sampleCheckpoint(storages)
  const real = await readFile(fixture('torch/checkpoint-zip.pt'))
  const ours = torchZip(root, storages.all, {
    folder: 'checkpoint-zip',
    serializationId: '1520105792693063459815721631437413477492',
  })
  t.deepEqual(Buffer.from(ours).toString('latin1'), real.toString('latin1'))
})

test('the legacy writer makes the file that PyTorch makes', async (t) => {
  const real = await readFile(fixture('torch/checkpoint-legacy.pt'))
  // the keys are addresses of the process that wrote the file, in the order in which the pickle names them
  const keys = [...new Set(real.toString('latin1').match(/(?<=X.\0\0\0)\d{8,16}(?=q)/gs))]
  const storages = new Storages({ keys, legacy: true })
  const root = sampleCheckpoint(storages)
  t.is(keys.length, storages.all.length)
  t.deepEqual(Buffer.from(torchLegacy(root, storages.all)).toString('latin1'), real.toString('latin1'))
})
