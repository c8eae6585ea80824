import { zipSync } from 'fflate'
import { openCheckpoint } from '../../checkpoint/open-checkpoint.ts'
import { VilgError } from '../../errors.ts'
import { expectString } from '../../validate.ts'
import { writeFileWhole } from '../../data/image.ts'
import { checkGaussian, type Gaussian } from './gaussian.ts'
import { writeNpy } from './npy.ts'

// numpy's own date for the entries: the same statistics make the same file
const entryDate = new Date(1980, 0, 1)

/**
 * Reads statistics from an `.npz` file as pytorch-fid writes and publishes them: the arrays `mu` (d) and `sigma` (d x d), float64 or float32.
 *
 * @throws ERR_VILG_IO; ERR_VILG_CHECKPOINT_FORMAT for what is no such file; ERR_VILG_INVALID_ARGUMENT for numbers that are not finite or a
 *   sigma that is not symmetric
 */
export async function readStatistics(path: string): Promise<Gaussian> {
  const refuse = (found: string): VilgError =>
    new VilgError(
      'ERR_VILG_CHECKPOINT_FORMAT',
      `Expected an .npz file with the arrays mu (d) and sigma (d, d) of float64 or float32 numbers, and ${path} ${found}`,
      { path },
    )
  const file = await openCheckpoint(expectString('path', path))
  try {
    if (file.kind !== 'npz') throw refuse(`is a file of the kind ${file.kind}`)
    const [mu, sigma] = ['mu', 'sigma'].map((name) => {
      const array = file.tensors.get(name)
      if (array === undefined) throw refuse(`has no ${name}`)
      if (array.dtype !== 'F64' && array.dtype !== 'F32')
        throw refuse(`has ${name} of the type ${array.dtype}`)
      return array
    })
    const [d = 0] = mu!.shape
    if (mu!.shape.length !== 1 || d === 0 || sigma!.shape.join() !== `${d},${d}`) {
      throw refuse(`has mu of (${mu!.shape.join(', ')}) and sigma of (${sigma!.shape.join(', ')})`)
    }
    const read = async (name: string) =>
      Float64Array.from((await file.read(name)) as Float64Array | Float32Array)
    return checkGaussian(path, { mean: await read('mu'), covariance: await read('sigma') })
  } finally {
    await file.close()
  }
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
