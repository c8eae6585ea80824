import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { zipSync } from 'fflate'
import { writeNpy } from '../../../lib/metrics/frechet/npy.ts'
import { readStatistics, writeStatistics } from '../../../lib/metrics/index.ts'
import { temporaryFolder } from '../../model/helpers.ts'

const mean = new Float64Array([1.5, -2, 3e-7])
const covariance = new Float64Array([4, 1, 0.5, 1, 3, -0.25, 0.5, -0.25, 2])
const format = { code: 'ERR_VILG_CHECKPOINT_FORMAT' }

// statistics-numpy*.npz: savez and savez_compressed of NumPy 2.4
test("NumPy's files: plain with zip64 headers; compressed, float32, in Fortran order", async (t) => {
  t.deepEqual(await readStatistics('test/fixtures/metrics/statistics-numpy.npz'), { mean, covariance })
  const compressed = await readStatistics('test/fixtures/metrics/statistics-numpy-compressed.npz')
  t.deepEqual(compressed, { mean: Float64Array.from(Float32Array.from(mean)), covariance })
})

test('what is written is read, the same bytes each time', async (t) => {
  const folder = await temporaryFolder(t)
  const [one, other] = [join(folder, 'new', 'a.npz'), join(folder, 'b.npz')]
  await writeStatistics(one, { mean, covariance })
  await writeStatistics(other, { mean, covariance })
  t.deepEqual(await readStatistics(one), { mean, covariance })
  t.deepEqual(await readFile(one), await readFile(other))
})

test('files that hold no statistics are refused, truncated ones at every length', async (t) => {
  const folder = await temporaryFolder(t)
  const path = join(folder, 'x.npz')
  const good = await readFile('test/fixtures/metrics/statistics-numpy-compressed.npz')
  for (let length = 0; length < good.length; length += 7) {
    await writeFile(path, good.subarray(0, length))
    await t.throwsAsync(readStatistics(path), format, `${length} bytes`)
  }
  const mu = writeNpy({ shape: [3], data: mean })
  const sigma = writeNpy({ shape: [3, 3], data: covariance })
  const bad: [Uint8Array, RegExp][] = [
    [zipSync({ 'mu.npy': mu }), /has no sigma/],
    [zipSync({ 'mu.npy': mu, 'sigma.npy': mu }), /sigma of \(3\)/],
    [zipSync({ 'mu.npy': mu.subarray(0, 50), 'sigma.npy': sigma }), /mu/],
    [await readFile('test/fixtures/generator-tiny/weights.safetensors'), /kind safetensors/],
  ]
  for (const [bytes, message] of bad) {
    await writeFile(path, bytes)
    await t.throwsAsync(readStatistics(path), { ...format, message })
  }
  await t.throwsAsync(readStatistics(join(folder, 'missing.npz')), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(readStatistics(3 as never), { code: 'ERR_VILG_INVALID_ARGUMENT' })
})

test('numbers that are no statistics are refused', async (t) => {
  const path = join(await temporaryFolder(t), 'x.npz')
  const changed = (array: Float64Array, at: number, value: number) =>
    array.map((one, i) => (i === at ? value : one))
  const bad: [unknown, string, RegExp][] = [
    [{ mean: changed(mean, 1, NaN), covariance }, 'ERR_VILG_INVALID_ARGUMENT', /mean.*NaN at place 1/],
    [
      { mean, covariance: changed(covariance, 8, Infinity) },
      'ERR_VILG_INVALID_ARGUMENT',
      /covariance.*Infinity/,
    ],
    [{ mean, covariance: changed(covariance, 1, 2) }, 'ERR_VILG_INVALID_ARGUMENT', /symmetric/],
    [{ mean, covariance: mean }, 'ERR_VILG_SHAPE_MISMATCH', /length 9/],
    [{ mean: [1], covariance }, 'ERR_VILG_INVALID_ARGUMENT', /Float64Array/],
    [{ mean }, 'ERR_VILG_INVALID_ARGUMENT', /mean and covariance/],
  ]
  for (const [statistics, code, message] of bad) {
    await t.throwsAsync(writeStatistics(path, statistics as never), { code, message })
  }
  await writeFile(
    path,
    zipSync({
      'mu.npy': writeNpy({ shape: [3], data: changed(mean, 0, NaN) }),
      'sigma.npy': writeNpy({ shape: [3, 3], data: covariance }),
    }),
  )
  await t.throwsAsync(readStatistics(path), { code: 'ERR_VILG_INVALID_ARGUMENT', message: /NaN at place 0/ })
})
