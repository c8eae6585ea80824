import { readFile, stat } from 'node:fs/promises'
import { unzip, type UnzipFileInfo, type Unzipped, zipSync } from 'fflate'
import { writeFileWhole } from '../../data/image.ts'
import { VilgError } from '../../errors.ts'
import { expectString } from '../../validate.ts'
import { checkGaussian, type Gaussian } from './gaussian.ts'
import { type NpyArray, readNpy, writeNpy } from './npy.ts'

/** The largest file that is read; statistics of 2048 features have 34 MB. */
const maxBytes = 2 ** 31 - 1
/** Deflate cannot shrink by more, so what claims to has a wrong size. */
const maxRatio = 1032
// numpy's own date for the entries: the same statistics make the same file
const entryDate = new Date(1980, 0, 1)

/**
 * Reads statistics from an `.npz` file as pytorch-fid writes and publishes them: the arrays `mu` (d) and `sigma` (d x d), float64 or float32.
 *
 * @throws ERR_VILG_IO; ERR_VILG_CHECKPOINT_FORMAT for what is no such file; ERR_VILG_INVALID_ARGUMENT for numbers that are not finite or a sigma that is not symmetric
 */
export async function readStatistics(path: string): Promise<Gaussian> {
  const bytes = await readBytes(expectString('path', path))
  const names = ['mu.npy', 'sigma.npy']
  const refuse = (found: string, cause?: unknown): VilgError =>
    new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `Expected an .npz file with the arrays mu and sigma, and ${path} ${found}`,
      { path },
      { cause },
    )
  let entries: Unzipped
  try {
    entries = await unzipped(bytes, ({ name, size, originalSize }) => {
      if (!names.includes(name)) return false
      if (originalSize > maxRatio * size) throw new Error(`${name} claims ${originalSize} bytes`)
      return true
    })
  } catch (cause) {
    throw refuse(`is damaged: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
  const [mu, sigma] = names.map((name): NpyArray => {
    const entry = entries[name]
    if (!entry) throw refuse(`has no ${name}`)
    return readNpy(entry, `${name} of ${path}`)
  }) as [NpyArray, NpyArray]
  const [d = 0] = mu.shape
  if (
    mu.shape.length !== 1 ||
    d === 0 ||
    sigma.shape.length !== 2 ||
    sigma.shape.some((side) => side !== d)
  ) {
    const shapes = `mu of (${mu.shape.join(', ')}) and sigma of (${sigma.shape.join(', ')})`
    throw refuse(`has ${shapes}, not of (d) and (d, d)`)
  }
  return checkGaussian(path, { mean: mu.data, covariance: sigma.data })
}

/**
 * Writes statistics as pytorch-fid reads them: an `.npz` file with the float64 arrays `mu` and `sigma`, whole or not at all.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT, ERR_VILG_SHAPE_MISMATCH; ERR_VILG_IO
 */
export async function writeStatistics(path: string, statistics: Gaussian): Promise<void> {
  expectString('path', path)
  const { mean, covariance } = checkGaussian('statistics', statistics)
  const d = mean.length
  const zip = zipSync(
    {
      'mu.npy': writeNpy({ shape: [d], data: mean }),
      'sigma.npy': writeNpy({ shape: [d, d], data: covariance }),
    },
    { level: 0, mtime: entryDate },
  )
  await writeFileWhole(path, zip)
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path)
    if (size > maxBytes) {
      throw new VilgError(
        'ERR_VILG_CHECKPOINT_FORMAT',
        `${path} has ${size} bytes, too many for statistics`,
        {
          path,
        },
      )
    }
    return await readFile(path)
  } catch (cause) {
    if (cause instanceof VilgError) throw cause
    throw new VilgError(
      'ERR_VILG_IO',
      `Cannot read ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    )
  }
}

function unzipped(bytes: Uint8Array, filter: (entry: UnzipFileInfo) => boolean): Promise<Unzipped> {
  return new Promise((resolve, reject) => {
    unzip(bytes, { filter }, (error, entries) => (error ? reject(error) : resolve(entries)))
  })
}
