import { VilgError } from '../errors.ts'
import { describeValue, outOfRange, typeMismatch } from '../validate.ts'

/** Where to compute. `cuda` never falls back to the CPU; `auto` may, and `backendInfo().fallbackReason` says why. */
export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

/** The type of weights and products. Sums, vectors and losses are float32 always. */
export type Precision = 'float32' | 'bfloat16' | 'float16'

/** Why there is no CUDA; undefined where there is. */
export const cudaMissing = 'this build has no CUDA backend'

/**
 * Checks a `device` option and names the device to use.
 *
 * @throws VilgError `ERR_VILG_UNSUPPORTED` for a CUDA device where there is none
 */
export function resolveDevice(name: string, value: unknown): 'cpu' {
  if (value === undefined || value === 'auto' || value === 'cpu') return 'cpu'
  const expected = "'auto', 'cpu', 'cuda' or 'cuda:<number>'"
  if (typeof value !== 'string') throw typeMismatch(name, expected, value)
  if (!/^cuda(:\d+)?$/.test(value)) throw outOfRange(name, expected, value)
  throw new VilgError(
    'ERR_VILG_UNSUPPORTED',
    `Expected a device of this machine for ${name}, received ${describeValue(value)}, but ${cudaMissing}; use 'cpu' or 'auto'`,
    { argument: name, device: value },
  )
}

/**
 * Checks a `precision` option; float32 where there is none.
 *
 * @throws VilgError `ERR_VILG_UNSUPPORTED` for float16
 */
export function resolvePrecision(name: string, value: unknown): 'float32' | 'bfloat16' {
  if (value === undefined || value === 'float32' || value === 'bfloat16') return value ?? 'float32'
  const expected = "'float32' or 'bfloat16'"
  if (typeof value !== 'string') throw typeMismatch(name, expected, value)
  if (value !== 'float16') throw outOfRange(name, expected, value)
  throw new VilgError(
    'ERR_VILG_UNSUPPORTED',
    `Expected ${expected} for ${name}, received 'float16', which the cpu device does not compute in; use 'bfloat16'`,
    { argument: name },
  )
}
