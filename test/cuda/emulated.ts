import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

/**
 * Makes `cuda` mean the plugin whose kernels run on the host (csrc/cuda/emulation), which `npm run build:tests` makes. Import it first: the
 * library looks for a plugin once.
 */
export const emulatedPlugin = resolve('build/tests/libvilg_cuda_emulated.so')
if (!existsSync(emulatedPlugin)) throw new Error(`Expected ${emulatedPlugin}: run npm run build:tests`)
process.env['VILG_CUDA_PLUGIN'] = emulatedPlugin
