import { join } from 'node:path'
import test from 'ava'
import { toFloat32 } from '../../lib/checkpoint/to-float32.ts'
import { SafetensorsFile, writeSafetensors } from '../../lib/index.ts'
import { temporaryFolder } from '../model/helpers.ts'

test('all float16 and bfloat16 numbers are those of the native reader', async (t) => {
  const path = join(await temporaryFolder(t), 'a.safetensors')
  const data = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i)
  const shape = [data.length]
  await writeSafetensors(path, [
    { name: 'F16', dtype: 'F16', shape, data },
    { name: 'BF16', dtype: 'BF16', shape, data },
  ])
  await using file = await SafetensorsFile.open(path)
  for (const dtype of ['F16', 'BF16'] as const) {
    const wanted = await file.readFloat32(dtype)
    const found = toFloat32(dtype, data)
    // Object.is tells the zeros apart, and takes NaNs for the same
    t.is(
      found.findIndex((value, i) => !Object.is(value, wanted[i])),
      -1,
      dtype,
    )
  }
})

test('integers, doubles and booleans are rounded to the nearest', (t) => {
  t.deepEqual(toFloat32('I64', BigInt64Array.of(-1n, 2n ** 53n + 1n)), Float32Array.of(-1, 2 ** 53))
  t.deepEqual(toFloat32('I32', Int32Array.of(2 ** 24 + 1)), Float32Array.of(2 ** 24))
  t.deepEqual(toFloat32('F64', Float64Array.of(0.1, NaN)), Float32Array.of(0.1, NaN))
  t.deepEqual(toFloat32('BOOL', Uint8Array.of(0, 1)), Float32Array.of(0, 1))
})
