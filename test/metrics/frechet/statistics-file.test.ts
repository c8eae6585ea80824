import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { zipSync } from 'fflate'
import { readNpy, writeNpy } from '../../../lib/metrics/frechet/npy.ts'
import { readStatistics, writeStatistics } from '../../../lib/metrics/index.ts'
import { temporaryFolder } from '../../model/helpers.ts'

const mean = new Float64Array([1.5, -2, 3e-7])
const covariance = new Float64Array([4, 1, 0.5, 1, 3, -0.25, 0.5, -0.25, 2])
const format = { code: 'ERR_VILG_CHECKPOINT_FORMAT' }

/** A .npy file of version 1 with any header. */
function npy(header: string, data: Uint8Array = new Uint8Array(0), version = 1): Uint8Array {
  const length = Buffer.alloc(version === 1 ? 2 : 4)
  if (version === 1) length.writeUInt16LE(header.length)
  else length.writeUInt32LE(header.length)
  return Buffer.concat([
    Buffer.from(`\x93NUMPY${String.fromCharCode(version)}\0`, 'latin1'),
    length,
    Buffer.from(header),
    data,
  ])
}

// statistics-numpy*.npz: savez and savez_compressed of NumPy 2.4
test("NumPy's files: plain with zip64 headers; compressed, float32, big-endian, in Fortran order", async (t) => {
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

test('arrays: versions, shapes and Fortran order', (t) => {
  const numbers = new Uint8Array(new Float64Array([1, 2, 3, 4, 5, 6]).buffer)
  const dictionary = (order: string) => `{'shape': (2L, 3), 'fortran_order': ${order}, 'descr': '<f8'}\n`
  t.deepEqual(readNpy(npy(dictionary('False'), numbers), 'x'), {
    shape: [2, 3],
    data: new Float64Array([1, 2, 3, 4, 5, 6]),
  })
  for (const version of [1, 2, 3]) {
    t.deepEqual([...readNpy(npy(dictionary('True'), numbers, version), 'x').data], [1, 3, 5, 2, 4, 6])
  }
  const scalar = readNpy(
    npy("{'descr': '>f4', 'fortran_order': False, 'shape': (), }", new Uint8Array([63, 128, 0, 0])),
    'x',
  )
  t.deepEqual(scalar, { shape: [], data: new Float64Array([1]) })
  const written = writeNpy({ shape: [3], data: mean })
  t.is((written.length - 24) % 64, 0)
  t.deepEqual(readNpy(written, 'x'), { shape: [3], data: mean })
  // at an odd place of a larger buffer
  const shifted = new Uint8Array(written.length + 1)
  shifted.set(written, 1)
  t.deepEqual(readNpy(shifted.subarray(1), 'x').data, mean)
})

test('arrays that are none are refused with the reason', (t) => {
  const bad: [Uint8Array, RegExp][] = [
    [new Uint8Array(3), /does not begin/],
    [Buffer.from('PK\x03\x04 and more bytes'), /does not begin/],
    [npy('{}', undefined, 4), /version 4/],
    [writeNpy({ shape: [3], data: mean }).subarray(0, 40), /cut off/],
    [writeNpy({ shape: [3], data: mean }).subarray(0, -1), /asks for 24 bytes where there are 23/],
    [npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9007199254740992, 9007199254740992)}"), /shape/],
    [npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), /"\|O"/],
    [npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,)}"), /<i8/],
    [npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}"), /cannot be read/],
    [npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1 2,)}"), /shape/],
    [npy("{'descr': '<f8', 'fortran_order': False}"), /cannot be read/],
    [npy("{'descr': '<f8', 'descr': '<f8', 'descr': '<f8'}"), /cannot be read/],
  ]
  for (const [bytes, message] of bad) t.throws(() => readNpy(bytes, 'x.npy'), { ...format, message })
})

test('files that hold no statistics are refused, truncated ones at every length', async (t) => {
  const folder = await temporaryFolder(t)
  const path = join(folder, 'x.npz')
  const good = await readFile('test/fixtures/metrics/statistics-numpy-compressed.npz')
  for (let length = 0; length < good.length; length += 7) {
    await writeFile(path, good.subarray(0, length))
    await t.throwsAsync(readStatistics(path), { ...format, message: /damaged/ }, `${length} bytes`)
  }
  const mu = writeNpy({ shape: [3], data: mean })
  const sigma = writeNpy({ shape: [3, 3], data: covariance })
  const bad: [Uint8Array, RegExp][] = [
    [zipSync({ 'mu.npy': mu }), /has no sigma\.npy/],
    [zipSync({ 'mu.npy': mu, 'sigma.npy': mu }), /sigma of \(3\), not of \(d\) and \(d, d\)/],
    [zipSync({ 'mu.npy': mu.subarray(0, 50), 'sigma.npy': sigma }), /mu\.npy of/],
  ]
  for (const [bytes, message] of bad) {
    await writeFile(path, bytes)
    await t.throwsAsync(readStatistics(path), { ...format, message })
  }
  await t.throwsAsync(readStatistics(join(folder, 'missing.npz')), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(readStatistics(3 as never), { code: 'ERR_VILG_INVALID_ARGUMENT' })
})

test('an entry that claims more bytes than deflate can have made is refused before it is unpacked', async (t) => {
  const path = join(await temporaryFolder(t), 'bomb.npz')
  const zip = Buffer.from(zipSync({ 'mu.npy': [new Uint8Array(2000), { level: 9 }] }))
  const directory = zip.indexOf('PK\x01\x02', 0, 'latin1')
  zip.writeUInt32LE(0x7fffffff, directory + 24)
  await writeFile(path, zip)
  await t.throwsAsync(readStatistics(path), { ...format, message: /claims 2147483647 bytes/ })
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
