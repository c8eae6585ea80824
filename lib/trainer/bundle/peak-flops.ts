import { backendInfo } from '../../backend-info.ts'
import { measureCeilings } from '../../ceilings.ts'
import type { ResolvedTrainerOptions } from '../options.ts'

const milliseconds = 100

/**
 * Floating-point operations that the products of a training can have in a second: measured on the CPU, which takes a third of a second.
 * Undefined on other devices, whose limits are not measured.
 */
export async function peakFlops(
  precision: ResolvedTrainerOptions['precision'],
  signal: AbortSignal,
): Promise<number | undefined> {
  if (backendInfo().device !== 'cpu') return undefined
  const { float32Flops, bfloat16Flops } = await measureCeilings({ milliseconds, signal })
  // without instructions for bfloat16, its products are those of float32
  return precision === 'bfloat16' && bfloat16Flops > 0 ? bfloat16Flops : float32Flops
}
