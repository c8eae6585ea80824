import { native } from './native/binding.ts'
import { callNative, checkSignal } from './native/call.ts'
import { expectInteger, expectNumber, rejectUnknownKeys } from './validate.ts'

/** How {@link measureCeilings} measures. */
export interface CeilingsOptions {
  /** Threads of a pool for this call alone, 1 to 1024; the shared pool unless given. */
  threads?: number
  /** How long each of the three takes; 300 unless given, at most 60,000. */
  milliseconds?: number
  signal?: AbortSignal
}

/** What no kernel can exceed on this machine, per second. */
export interface Ceilings {
  /** Floating-point operations of a loop of fused multiply-adds in float32, each counted as two. */
  float32Flops: number
  /** The same of products of bfloat16 pairs (vdpbf16ps); 0 where the instruction set in use has no such instruction. */
  bfloat16Flops: number
  /** Bytes read from memory that no cache holds. */
  readBytes: number
}

/** What {@link measureCeilings} returns. */
export interface MeasuredCeilings extends Ceilings {
  /**
   * `readBytes` over the whole measurement instead of the best slice: memory is shared with all else that runs on the machine, a virtual
   * one's neighbours included, so what can be had for seconds may be far below the best.
   */
  sustainedReadBytes: number
}

/**
 * Measures what this machine can do at most with the instruction set and the threads in use: loops that only multiply registers, and
 * loops that only read memory (256 MB, which it takes for a moment). The best of many short slices counts; other work on the machine may still lower it.
 *
 * @throws `ERR_VILG_INVALID_ARGUMENT`; `ERR_VILG_OUT_OF_MEMORY`
 */
export async function measureCeilings(options: CeilingsOptions = {}): Promise<MeasuredCeilings> {
  rejectUnknownKeys('ceilings options', options, ['threads', 'milliseconds', 'signal'])
  const { threads, signal } = options
  checkSignal(signal)
  const checked = {
    threads: threads === undefined ? 0 : expectInteger('threads', threads, { min: 1, max: 1024 }),
    milliseconds: expectNumber('milliseconds', options.milliseconds ?? 300, { min: 0, max: 60_000 }),
  }
  return callNative({ signal }, (control) => native().ceilings(checked, control))
}
