import test from 'ava'
import { backendInfo, type Direction, Generator, SafetensorsFile, setIsa } from '../../lib/index.ts'
import { devices, fixture, floats, relativeError } from './helpers.ts'

// Reference values: an independent double-precision PyTorch model with dense masks (test/fixtures, docs/model.md).
const folder = fixture('generator-tiny')
const M = 6
const Vt = 40
const n = 16

async function expectations() {
  const file = await SafetensorsFile.open(`${folder}/expected.safetensors`)
  const text = Int32Array.from((await file.read('text')) as Int32Array)
  const textValid = Uint8Array.from((await file.read('text_valid')) as Uint8Array)
  const image = Int32Array.from((await file.read('image')) as Int32Array)
  return { file, batch: { text, textValid, image } }
}

/** Rows of image-to-text logits whose query is a PAD mean nothing: they become 0 in both. */
function dropPad(logits: Float32Array, textValid: Uint8Array, direction: Direction): Float32Array {
  if (direction === 'text-to-image') return logits
  return logits.map((x, i) => {
    const row = Math.floor(i / Vt)
    const b = Math.floor(row / (M - 1))
    return textValid[b * M + (row % (M - 1))] === 1 ? x : 0
  })
}

const directions = [
  ['text-to-image', 't2i'],
  ['image-to-text', 'i2t'],
] as const

for (const device of devices) {
  for (const [direction, prefix] of directions) {
    test.serial(`${device}: ${direction} logits and loss of the reference`, async (t) => {
      const { file, batch } = await expectations()
      const isas = device === 'cpu' ? backendInfo().isas : [undefined]
      await using generator = await Generator.load(folder, { device })
      t.is(generator.device, device)
      const expected = dropPad(await floats(file, `${prefix}.logits`), batch.textValid, direction)
      const [loss] = await floats(file, `${prefix}.loss`)
      for (const isa of isas) {
        if (isa !== undefined) setIsa(isa)
        const result = await generator.forward(batch, { direction })
        const pairs = batch.text.length / M
        t.deepEqual(result.shape, direction === 'text-to-image' ? [pairs, n, 24] : [pairs, M - 1, Vt])
        const actual = dropPad(result.logits, batch.textValid, direction)
        t.true(relativeError(actual, expected) < 1e-5, `${isa}: ${relativeError(actual, expected)}`)
        t.true(Math.abs(result.loss / loss! - 1) < 1e-5, `${isa}: ${result.loss} ${loss}`)
      }
      if (isas.length > 1) setIsa(isas.at(-1)!)
      await file.dispose()
    })

    test.serial(`${device}: ${direction} gradients of the reference, every weight`, async (t) => {
      const { file, batch } = await expectations()
      const isas = device === 'cpu' ? backendInfo().isas : [undefined]
      await using generator = await Generator.load(folder, { device })
      for (const isa of isas) {
        if (isa !== undefined) setIsa(isa)
        const { gradients } = await generator.gradients(batch, { direction })
        let compared = 0
        for (const [name, gradient] of gradients) {
          const key = `${prefix}.grad.${name}`
          const expected = file.tensors.has(key) ? await floats(file, key) : new Float32Array(gradient.length)
          const error = relativeError(gradient, expected)
          t.true(error < 1e-4, `${isa} ${name}: ${error}`)
          if (expected.some((x) => x !== 0)) compared++
        }
        // all but the head of the other half and the embeddings that only it reads
        t.true(compared >= gradients.size - 4, `${compared} of ${gradients.size}`)
      }
      if (isas.length > 1) setIsa(isas.at(-1)!)
      await file.dispose()
    })
  }
}

test('the loss is the mean of the row losses that count', async (t) => {
  const { file, batch } = await expectations()
  await using generator = await Generator.load(folder)
  for (const [direction] of directions) {
    const { loss, rowLosses, shape } = await generator.forward(batch, { direction })
    t.is(rowLosses.length, shape[0] * shape[1])
    const targets =
      direction === 'text-to-image' ? rowLosses.length : batch.textValid.reduce((a, b) => a + b, 0) - shape[0]
    const mean = rowLosses.reduce((a, b) => a + b, 0) / targets
    t.true(Math.abs(mean / loss - 1) < 1e-6)
  }
  await file.dispose()
})
