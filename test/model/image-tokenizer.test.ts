import test from 'ava'
import { backendInfo, ImageTokenizer, SafetensorsFile, setIsa, setThreads } from '../../lib/index.ts'
import { devices, fixture, floats, randomFrom, refuses, relativeError } from './helpers.ts'

// Reference values: taming-transformers' VQModel and GumbelVQ (test/fixtures).
const kinds = ['taming-vqgan-tiny', 'taming-gumbel-tiny'] as const

for (const device of devices) {
  // the oracle takes seconds: one kind is enough here, csrc/tests has the other
  for (const kind of device === 'cpu' ? kinds : kinds.slice(0, 1)) {
    test.serial(`${device}: ${kind}: vectors, tokens and pictures of the reference`, async (t) => {
      const folder = fixture(kind)
      await using expected = await SafetensorsFile.open(`${folder}/expected.safetensors`)
      await using tokenizer = await ImageTokenizer.load(folder, { device })
      const images = await floats(expected, 'image')
      const indices = Int32Array.from((await expected.read('indices')) as Int32Array, Number)
      const isas = device === 'cpu' ? backendInfo().isas : [undefined]
      for (const isa of isas) {
        if (isa !== undefined) setIsa(isa)
        const encoded = await tokenizer.encode(images)
        const error = relativeError(encoded.prequant, await floats(expected, 'prequant'))
        t.true(error < 1e-5, `${isa}: prequant ${error}`)
        t.deepEqual([...encoded.indices], [...indices], `${isa}`)
        const pictures = await tokenizer.decode(encoded.indices)
        const off = relativeError(pictures, await floats(expected, 'reconstruction'))
        t.true(off < 1e-5, `${isa}: reconstruction ${off}`)
      }
      if (isas.length > 1) setIsa(isas.at(-1)!)
    })
  }

  test.serial(`${device}: losses and gradients of the reference`, async (t) => {
    const folder = fixture('taming-vqgan-tiny')
    await using expected = await SafetensorsFile.open(`${folder}/expected.safetensors`)
    await using tokenizer = await ImageTokenizer.load(folder, { device })
    const images = await floats(expected, 'image')
    // taming's legacy form with beta 0.25 weighs the codebook's term by it
    const weights = { reconstruction: 1, absolute: 0, commitment: 1, codebook: 0.25 }
    const isas = device === 'cpu' ? backendInfo().isas : [undefined]
    for (const isa of isas) {
      if (isa !== undefined) setIsa(isa)
      const { losses, gradients } = await tokenizer.gradients(images, { weights })
      const [total] = await floats(expected, 'total_loss')
      const [codebook] = await floats(expected, 'codebook_loss')
      t.true(Math.abs(losses.total / total! - 1) < 1e-5, `${losses.total} ${total}`)
      const quantization = losses.commitment + 0.25 * losses.codebook
      t.true(Math.abs(quantization / codebook! - 1) < 1e-5, `${quantization} ${codebook}`)
      let compared = 0
      for (const [name, gradient] of gradients) {
        if (!expected.tensors.has(`grad.${name}`)) continue
        const reference = await floats(expected, `grad.${name}`)
        const weight = `grad.${name.replace(/bias$/, 'weight')}`
        if (name.endsWith('.bias') && expected.tensors.has(weight)) {
          // Biases of keys, and before a norm whose groups have one channel, have no effect: what is left on either side is rounding.
          const floor = 1e-5 * norm(await floats(expected, weight))
          if (norm(reference) < floor) {
            t.true(norm(gradient) < floor, `${isa} ${name}: ${norm(gradient)}`)
            continue
          }
        }
        compared++
        const error = relativeError(gradient, reference)
        t.true(error < 1e-4, `${isa} ${name}: ${error}`)
      }
      t.is(compared, 150, 'of 161 in the fixture')
    }
    if (isas.length > 1) setIsa(isas.at(-1)!)
  })
}

const norm = (values: Float32Array): number => Math.hypot(...values)

function noise(count: number, seed: number): Float32Array {
  const random = randomFrom(seed)
  return Float32Array.from({ length: count }, () => 2 * random() - 1)
}
const picture = 3 * 32 * 32

test.serial('1 thread and 2 give the same bits, whatever else is in the batch', async (t) => {
  const before = backendInfo().threads
  t.teardown(() => setThreads(before))
  await using tokenizer = await ImageTokenizer.load(fixture('taming-vqgan-tiny'))
  const images = noise(3 * picture, 1)
  const runs = []
  for (const threads of [1, 2, 3]) {
    setThreads(threads)
    const { indices, prequant } = await tokenizer.encode(images)
    const { gradients } = await tokenizer.gradients(images)
    runs.push({
      indices,
      prequant,
      pictures: await tokenizer.decode(indices),
      gradients: [...gradients.values()],
    })
  }
  t.deepEqual(runs[1], runs[0])
  t.deepEqual(runs[2], runs[0])
  const one = await tokenizer.encode(images.subarray(picture, 2 * picture))
  t.deepEqual(one.indices, runs[0]!.indices.slice(64, 128))
})

test('count and length have to agree, values have to be finite, ids in the codebook', async (t) => {
  await using tokenizer = await ImageTokenizer.load(fixture('taming-vqgan-tiny'))
  t.is(tokenizer.grid, 8)
  const images = noise(2 * picture, 2)
  t.is((await tokenizer.encode(images, { count: 2 })).indices.length, 128)
  await refuses(t, tokenizer.encode(images, { count: 1 }), 'ERR_VILG_SHAPE_MISMATCH', '1 x 3072')
  await refuses(t, tokenizer.encode(images.subarray(1)), 'ERR_VILG_SHAPE_MISMATCH', '3072')
  await refuses(t, tokenizer.encode(new Float32Array()), 'ERR_VILG_SHAPE_MISMATCH')
  await refuses(t, tokenizer.encode(images, { count: 1.5 }), 'ERR_VILG_INVALID_ARGUMENT', '1.5')
  await refuses(t, tokenizer.encode(images.with(7, NaN)), 'ERR_VILG_INVALID_ARGUMENT', 'images[7]', 'NaN')
  await refuses(t, tokenizer.encode(Array.from(images) as never), 'ERR_VILG_INVALID_ARGUMENT', 'Float32Array')
  await refuses(t, tokenizer.encode(images, { counts: 2 } as never), 'ERR_VILG_INVALID_ARGUMENT', 'counts')
  const indices = new Int32Array(64)
  t.is((await tokenizer.decode(indices)).length, picture)
  await refuses(t, tokenizer.decode(indices.subarray(1)), 'ERR_VILG_SHAPE_MISMATCH', '64')
  await refuses(
    t,
    tokenizer.decode(indices.with(5, 40)),
    'ERR_VILG_INVALID_ARGUMENT',
    'indices[5]',
    '39',
    '40',
  )
  await refuses(t, tokenizer.decode(indices.with(5, -1)), 'ERR_VILG_INVALID_ARGUMENT', '-1')
  await refuses(t, tokenizer.decode(new Uint32Array(64) as never), 'ERR_VILG_INVALID_ARGUMENT', 'Int32Array')
})

test('an array within a larger buffer is read at its place, and may be changed after the call', async (t) => {
  await using tokenizer = await ImageTokenizer.load(fixture('taming-vqgan-tiny'))
  const images = noise(picture, 3)
  const expected = await tokenizer.encode(images)
  const buffer = new Float32Array(picture + 10)
  const within = buffer.subarray(7, 7 + picture)
  within.set(images)
  const call = tokenizer.encode(within)
  buffer.fill(0)
  t.deepEqual(await call, expected)
})

test('gumbel: encodes and decodes, but has no gradients yet', async (t) => {
  await using tokenizer = await ImageTokenizer.load(fixture('taming-gumbel-tiny'))
  await refuses(t, tokenizer.gradients(noise(picture, 1)), 'ERR_VILG_UNSUPPORTED', 'nearest')
})

test('a bfloat16 tokenizer is close to the float32 one, and has no gradients', async (t) => {
  const folder = fixture('taming-vqgan-tiny')
  await using full = await ImageTokenizer.load(folder)
  await using half = await ImageTokenizer.load(folder, { precision: 'bfloat16' })
  t.is(half.precision, 'bfloat16')
  const indices = Int32Array.from({ length: 64 }, (_, i) => (i * 7) % 40)
  const error = relativeError(await half.decode(indices), await full.decode(indices))
  // 8 bits of mantissa in each of some 20 layers, their errors independent
  t.true(error > 1e-5 && error < 0.05, `${error}`)
  await refuses(t, half.gradients(noise(picture, 1)), 'ERR_VILG_UNSUPPORTED', 'float32')
})
