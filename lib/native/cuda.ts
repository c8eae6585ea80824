import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

import type { NativeCudaDevice } from '../../types/native.d.ts'
import { addonFile, native } from './binding.ts'

/** A GPU that the library can compute on. */
export interface CudaDevice {
  /** What `device` options call it. */
  device: `cuda:${number}`
  name: string
  /** Such as `9.0`. */
  computeCapability: string
  multiprocessors: number
  /** In bytes, as it was when the library first looked. */
  memory: { available: number; total: number }
  /** The kernels run on the host, slowly: for tests. `auto` never takes such a device. */
  emulated: boolean
}

/** The CUDA plugin in use. */
export interface CudaInfo {
  /** The plugin's file. */
  plugin: string
  devices: CudaDevice[]
  /** NVIDIA's libraries that the plugin looks for: the version found, or why it goes without. */
  libraries: Record<string, { version: string; path?: string } | { missing: string }>
}

const pluginName = 'libvilg_cuda.so'
let known: CudaInfo | { missing: string } | undefined

/**
 * What there is of CUDA, found out at the first call: the plugin beside the addon (or the file that the environment variable
 * `VILG_CUDA_PLUGIN` names; `off` for none) is tried in a process of its own, where a broken driver does no harm, then loaded here.
 */
export function cuda(): CudaInfo | { missing: string } {
  known ??= findCuda()
  return known
}

function findCuda(): CudaInfo | { missing: string } {
  const chosen = process.env['VILG_CUDA_PLUGIN']
  if (chosen === 'off') return { missing: 'CUDA is switched off by VILG_CUDA_PLUGIN' }
  native()
  const plugin = chosen ? resolve(chosen) : join(dirname(addonFile()), pluginName)
  if (!existsSync(plugin)) {
    return {
      missing: chosen
        ? `VILG_CUDA_PLUGIN names ${plugin}, which is not there`
        : 'this build has no CUDA plugin',
    }
  }
  const broken = tryInChild(plugin)
  if (broken !== undefined) return { missing: broken }
  try {
    const { devices, libraries } = native().usePlugin(plugin)
    return {
      plugin,
      devices: devices.map(describe),
      libraries: JSON.parse(libraries) as CudaInfo['libraries'],
    }
  } catch (error) {
    return { missing: (error as Error).message }
  }
}

/** Why the plugin cannot be used; undefined where it can. */
function tryInChild(plugin: string): string | undefined {
  const script = `
    const binding = require(process.argv[1])
    class Failure extends Error { constructor(code, message) { super(message) } }
    binding.initialize(Failure, {})
    try { binding.usePlugin(process.argv[2]) } catch (error) { process.stdout.write(error.message); process.exit(3) }`
  const { status, signal, stdout, error } = spawnSync(process.execPath, ['-e', script, addonFile(), plugin], {
    encoding: 'utf8',
    timeout: 60_000,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, NODE_OPTIONS: '' },
  })
  if (status === 0) return undefined
  if (status === 3) return stdout
  if (error) return `trying the CUDA plugin in a process of its own failed: ${error.message}`
  return `the CUDA plugin ended the process that tried it (${signal ?? `status ${status}`})`
}

function describe(found: NativeCudaDevice, index: number): CudaDevice {
  return {
    device: `cuda:${index}`,
    name: found.name,
    computeCapability: `${found.computeMajor}.${found.computeMinor}`,
    multiprocessors: found.multiprocessors,
    memory: { available: found.availableBytes, total: found.memoryBytes },
    emulated: found.emulated,
  }
}
