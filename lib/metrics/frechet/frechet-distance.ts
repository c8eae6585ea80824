import { native } from '../../native/binding.ts'
import { callNative } from '../../native/call.ts'
import { rangeError, rejectUnknownKeys } from '../../validate.ts'
import { checkGaussian, type Gaussian } from './gaussian.ts'

/**
 * The squared Fréchet distance of two normal distributions, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): FID (Heusel et al., NIPS 2017), where
 * both are of Inception's features, and then equal to pytorch-fid's to rounding.
 *
 * With S1 = A A^T and S2 = B B^T, the trace of the root is the sum of the singular values of A^T B: never imaginary, for covariances without full
 * rank too (fewer pictures than features), for which pytorch-fid adds 1e-6 to their diagonals where its root fails.
 *
 * @returns never negative
 * @throws ERR_VILG_INVALID_ARGUMENT for what is not finite or no covariance; ERR_VILG_SHAPE_MISMATCH for different dimensions
 */
export async function frechetDistance(
  a: Gaussian,
  b: Gaussian,
  options: { signal?: AbortSignal } = {},
): Promise<number> {
  rejectUnknownKeys('frechetDistance options', options, ['signal'])
  const [first, second] = [checkGaussian('a', a), checkGaussian('b', b)]
  if (first.mean.length !== second.mean.length) {
    const expected = `statistics of the ${first.mean.length} dimensions of a`
    throw rangeError('b', expected, `those of ${second.mean.length}`, 'ERR_VILG_SHAPE_MISMATCH')
  }
  return callNative(options, (control) => native().frechetDistance(first, second, control))
}
