import { totalmem } from 'node:os'

import { native } from './native/binding.ts'
import { cuda, type CudaInfo } from './native/cuda.ts'
import { automaticDevice, type Device, resolveDevice } from './native/options.ts'
export type { CudaDevice, CudaInfo } from './native/cuda.ts'
import { expectBoolean, expectInteger, expectOneOf, rejectUnknownKeys } from './validate.ts'

/** What the library computes on. */
export interface BackendInfo {
  /** The device that `device: 'auto'` takes. */
  device: string
  /** The instruction set of the CPU kernels in use, such as `x86-64-v4+avx512bf16`. */
  isa: string
  /** Those that this machine and this build have, the best one last. */
  isas: string[]
  /** Threads of the shared pool, the caller's one included. */
  threads: number
  /** Host memory in bytes; `available` is what can still be had (0 where the system does not tell). */
  memory: { available: number; total: number }
  /** The CUDA devices and what their plugin found; null where there is none. */
  cuda: CudaInfo | null
  /** Why `auto` does not take a CUDA device, where it does not. */
  fallbackReason?: string
}

/**
 * Says what the library computes on.
 *
 * @throws VilgError `ERR_VILG_NATIVE_LOAD` where the native module cannot be loaded
 */
export function backendInfo(): BackendInfo {
  const { isa, isas, threads, availableBytes } = native().backendInfo()
  const memory = { available: availableBytes, total: totalmem() }
  const found = cuda()
  return { ...automaticDevice(), isa, isas, threads, memory, cuda: 'missing' in found ? null : found }
}

/** Bytes of a device's memory that weights, states and activations of this process take. */
export interface MemoryUse {
  /** Now. Memory that is kept for the next call does not count. */
  inUse: number
  /** The most at any time since the process began, or since {@link memoryUse} was last called with `resetPeak`. */
  peak: number
}

/** Options of {@link memoryUse}. */
export interface MemoryUseOptions {
  /** `auto` unless given. */
  device?: Device
  /** Whether `peak` counts anew from now on, for what is read next; `false` unless given. */
  resetPeak?: boolean
}

/**
 * Says how much memory of a device the models, trainers and samplers of this process take.
 *
 * @throws VilgError `ERR_VILG_UNSUPPORTED` for a device that is not there
 */
export function memoryUse(options: MemoryUseOptions = {}): MemoryUse {
  rejectUnknownKeys('memoryUse options', options, ['device', 'resetPeak'])
  const resetPeak = expectBoolean('resetPeak', options.resetPeak ?? false)
  return native().memoryUse(resolveDevice('device', options.device), resetPeak)
}

/**
 * Sets the number of threads that kernels share, for the whole process: 1 to 1024; one a core unless set (or `VILG_THREADS` is). Work in
 * flight keeps what it began with. Results do not depend on it.
 */
export function setThreads(threads: number): void {
  native().setThreads(expectInteger('threads', threads, { min: 1, max: 1024 }))
}

/**
 * Sets the instruction set of the CPU kernels, for the whole process: one of `backendInfo().isas`; the best one unless set (or `VILG_ISA` is).
 * For measurements and tests: instruction sets differ in the last bits of their results.
 */
export function setIsa(isa: string): void {
  native().setIsa(expectOneOf('isa', isa, native().backendInfo().isas))
}
