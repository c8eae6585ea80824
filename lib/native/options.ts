import type { NativeBackendName } from '../../types/native.d.ts'
import { VilgError } from '../errors.ts'
import { describeValue, outOfRange, typeMismatch } from '../validate.ts'
import { cuda } from './cuda.ts'

/** Where to compute. `cuda` never falls back to the CPU; `auto` may, and `backendInfo().fallbackReason` says why. */
export type Device = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

/** The type of weights and products. Sums, vectors and losses are float32 always. */
export type Precision = 'float32' | 'bfloat16' | 'float16'

/**
 * Checks a `device` option and names the device to use.
 *
 * @throws VilgError `ERR_VILG_UNSUPPORTED` for a CUDA device that is not there
 */
export function resolveDevice(name: string, value: unknown): NativeBackendName {
  if (value === 'cpu') return 'cpu'
  if (value === undefined || value === 'auto') return automaticDevice().device
  const expected = "'auto', 'cpu', 'cuda' or 'cuda:<number>'"
  if (typeof value !== 'string') throw typeMismatch(name, expected, value)
  const match = /^cuda(?::(\d+))?$/.exec(value)
  if (!match) throw outOfRange(name, expected, value)
  const found = cuda()
  const index = Number(match[1] ?? 0)
  if ('devices' in found && index < found.devices.length) return `cuda:${index}`
  const reason =
    'missing' in found ? found.missing : `there are ${found.devices.length} CUDA devices, counted from 0`
  throw new VilgError(
    'ERR_VILG_UNSUPPORTED',
    `Expected a device of this machine for ${name}, received ${describeValue(value)}, but ${reason}; use 'cpu' or 'auto'`,
    { argument: name, device: value, reason },
  )
}

/** What `auto` takes, and why it is not a CUDA device where it is not. */
export function automaticDevice(): { device: NativeBackendName; fallbackReason?: string } {
  const found = cuda()
  if ('missing' in found) return { device: 'cpu', fallbackReason: found.missing }
  const real = found.devices.find(({ emulated }) => !emulated)
  return real ? { device: real.device } : { device: 'cpu', fallbackReason: 'the CUDA device is an emulation' }
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
    `Expected ${expected} for ${name}, received 'float16', which no device computes in yet; use 'bfloat16'`,
    { argument: name },
  )
}
