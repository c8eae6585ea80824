import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { SafetensorsFile, type VilgError, writeSafetensors } from '../../lib/index.ts'

async function temporary(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-safetensors-'))
  t.teardown(() => rm(folder, { recursive: true }))
  return folder
}

async function fails(
  t: ExecutionContext,
  promise: Promise<unknown>,
  code: string,
  text: RegExp,
): Promise<VilgError> {
  const error = (await t.throwsAsync(promise, { code })) as VilgError
  t.regex(error.message, text)
  return error
}

test('a fixture written by the reference implementation', async (t) => {
  await using file = await SafetensorsFile.open('test/fixtures/generator-tiny/weights.safetensors')
  const bias = await file.readFloat32('final_norm.bias')
  const raw = await file.read('final_norm.bias')
  t.true(raw instanceof Float32Array)
  t.deepEqual(raw, bias)
  t.deepEqual(file.tensors.get('final_norm.bias')?.shape, [bias.length])
  t.true(bias.some((value) => value !== 0))
})

test('every dtype there and back, with metadata', async (t) => {
  const path = join(await temporary(t), 'a.safetensors')
  const big = new Float32Array([9, 1.5, -2, 9])
  const tensors = [
    { name: 'f32', shape: [2, 1], data: big.subarray(1, 3) },
    { name: 'f64', dtype: 'F64', shape: [1], data: Float64Array.of(0.1) },
    { name: 'bf16', dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc000) },
    { name: 'f16', dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) },
    { name: 'i32', dtype: 'I32', shape: [], data: Int32Array.of(-5) },
    { name: 'i64', dtype: 'I64', shape: [1], data: BigInt64Array.of(-(2n ** 60n)) },
    { name: 'u8', dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) },
    { name: 'bool', dtype: 'BOOL', shape: [1], data: Uint8Array.of(1) },
    { name: '__proto__', dtype: 'I8', shape: [0, 3], data: new Int8Array(0) },
  ] as const
  await writeSafetensors(path, tensors, {
    metadata: new Map([
      ['__proto__', 'x'],
      ['名', '值'],
    ]),
  })
  await using file = await SafetensorsFile.open(path)
  t.deepEqual([...file.metadata].sort(), [
    ['__proto__', 'x'],
    ['名', '值'],
  ])
  t.is(file.tensors.size, tensors.length)
  for (const { name, shape, data } of tensors) {
    t.deepEqual(file.tensors.get(name)?.shape, [...shape])
    t.deepEqual((await file.read(name)) as unknown, data.slice(), name)
  }
  t.deepEqual(await file.readFloat32('bf16'), Float32Array.of(1, -2))
  t.deepEqual(await file.readFloat32('f16'), Float32Array.of(1, -2))
  t.deepEqual(await file.readFloat32('f64'), Float32Array.of(0.1))
  await fails(t, file.readFloat32('i32'), 'ERR_VILG_UNSUPPORTED', /i32.*found I32/)
  const missing = await fails(
    t,
    file.read('nope'),
    'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
    /expected a tensor nope/,
  )
  t.is(missing.details?.['tensor'], 'nope')
})

test('bad arguments write nothing', async (t) => {
  const folder = await temporary(t)
  const path = join(folder, 'a')
  const one = Float32Array.of(1)
  const write = (tensor: object): Promise<void> => writeSafetensors(path, [tensor as never])
  await fails(
    t,
    write({ name: 'a', shape: [2], data: one }),
    'ERR_VILG_SHAPE_MISMATCH',
    /length 2 for the data of a/,
  )
  await fails(
    t,
    write({ name: 'a', dtype: 'I32', shape: [1], data: one }),
    'ERR_VILG_INVALID_ARGUMENT',
    /Int32Array/,
  )
  await fails(
    t,
    write({ name: 'a', dtype: 'X', shape: [1], data: one }),
    'ERR_VILG_INVALID_ARGUMENT',
    /dtype of a/,
  )
  await fails(t, write({ name: 1, shape: [1], data: one }), 'ERR_VILG_INVALID_ARGUMENT', /for name/)
  await fails(t, write({ name: 'a', shape: 1, data: one }), 'ERR_VILG_INVALID_ARGUMENT', /shape of a/)
  await fails(
    t,
    write({ name: 'a', shape: [-1, -1], data: one }),
    'ERR_VILG_INVALID_ARGUMENT',
    /integer from 0/,
  )
  await fails(
    t,
    write({ name: '__metadata__', shape: [1], data: one }),
    'ERR_VILG_INVALID_ARGUMENT',
    /__metadata__/,
  )
  t.deepEqual(await readdir(folder), [])
})

test('damaged files are refused with their path and what is wrong', async (t) => {
  const folder = await temporary(t)
  const path = join(folder, 'a.safetensors')
  await writeSafetensors(path, [{ name: 'weight', shape: [4], data: new Float32Array(4) }])
  const good = await readFile(path)
  await writeFile(path, good.subarray(0, -1))
  const error = await fails(
    t,
    SafetensorsFile.open(path),
    'ERR_VILG_CHECKPOINT_FORMAT',
    /16 bytes.*found 15 \(truncated\?\)/,
  )
  t.true(error.message.includes(path))
  await writeFile(path, Buffer.from(good.toString('latin1').replace('[4]', '[5]'), 'latin1'))
  const lie = await fails(
    t,
    SafetensorsFile.open(path),
    'ERR_VILG_CHECKPOINT_FORMAT',
    /weight: expected 20 bytes/,
  )
  t.is(lie.details?.['tensor'], 'weight')
  await fails(t, SafetensorsFile.open(join(folder, 'none')), 'ERR_VILG_IO', /No such file/)
  await fails(t, SafetensorsFile.open(folder), 'ERR_VILG_IO', /directory/)
  await fails(t, SafetensorsFile.open(5 as never), 'ERR_VILG_INVALID_ARGUMENT', /path/)
})

test('a failed or aborted write leaves the old file', async (t) => {
  const folder = await temporary(t)
  const path = join(folder, 'a.safetensors')
  const tensor = { name: 'a', shape: [1], data: Float32Array.of(1) }
  await writeSafetensors(path, [tensor])
  const before = await readFile(path)
  await t.throwsAsync(writeSafetensors(path, [tensor], { signal: AbortSignal.abort(new Error('no')) }), {
    message: 'no',
  })
  await fails(t, writeSafetensors(join(folder, 'no', 'such'), [tensor]), 'ERR_VILG_IO', /No such file/)
  if (process.getuid?.() !== 0) {
    await chmod(folder, 0o500)
    await fails(t, writeSafetensors(path, [tensor]), 'ERR_VILG_IO', /Permission denied/)
    await chmod(folder, 0o700)
  }
  t.deepEqual(await readFile(path), before)
  t.deepEqual(await readdir(folder), ['a.safetensors'])
})

test('use after dispose, and dispose while reading', async (t) => {
  const file = await SafetensorsFile.open('test/fixtures/generator-tiny/weights.safetensors')
  const reading = file.read('text_embedding.weight')
  const disposal = file.dispose()
  t.true(file.disposed)
  t.is(file.dispose(), disposal)
  await fails(t, reading, 'ERR_VILG_DISPOSED', /disposed/)
  await disposal
  await fails(t, file.read('text_embedding.weight'), 'ERR_VILG_DISPOSED', /SafetensorsFile/)
})
