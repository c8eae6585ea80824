import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { VilgError } from '../errors.ts'
import { typeMismatch } from '../validate.ts'
import { native, stopped } from './binding.ts'

/** What a native call may be given. */
export interface CallOptions {
  /** Ends the work; the promise rejects with the signal's reason, untouched. */
  signal?: AbortSignal | undefined
  /** Called on this thread with work done and in total. What it throws ends the work and rejects the promise. */
  onProgress?: ((done: number, total: number) => void) | undefined
}

/**
 * Runs a native function that returns a promise: `callNative({ signal }, (control) => binding.matmul(a, b, sizes, control))`.
 *
 * An aborted signal is noticed before anything starts; one that aborts later raises the task's stop flag, and the promise rejects with
 * `signal.reason` as soon as the native thread has let go. Native errors get the stack of this call, since their own begins in the event loop.
 *
 * @throws TypeError where `signal` is not an AbortSignal
 */
export async function callNative<T>(
  options: CallOptions,
  start: (control: TaskControl) => Promise<T>,
): Promise<T> {
  const { signal, onProgress } = options
  checkSignal(signal)
  signal?.throwIfAborted()
  const control: TaskControl = {}
  if (onProgress) control.onProgress = onProgress
  let stop: StopFlag | undefined
  const abort = (): void => stop?.raise()
  if (signal) {
    stop = control.stop = new (native().StopFlag)()
    signal.addEventListener('abort', abort, { once: true })
  }
  const caller: { stack?: string } = {}
  Error.captureStackTrace(caller, callNative)
  try {
    const result = await start(control)
    // work that got to its end before it saw the flag: an abort during a call rejects it, however the race went
    signal?.throwIfAborted()
    return result
  } catch (error) {
    if (error === stopped) {
      signal?.throwIfAborted()
      throw new VilgError('ERR_VILG_INTERNAL', 'A native task stopped although nobody asked it to')
    }
    if (error instanceof VilgError && error.details?.['source'] !== undefined)
      attachStack(error, caller.stack)
    throw error
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** Throws a TypeError unless `signal` is an AbortSignal or undefined. */
export function checkSignal(signal: unknown): asserts signal is AbortSignal | undefined {
  // by shape: signals of other realms and of polyfills count
  const like = signal as Partial<AbortSignal> | null | undefined
  if (
    like !== undefined &&
    !(
      typeof like === 'object' &&
      like !== null &&
      typeof like.aborted === 'boolean' &&
      typeof like.addEventListener === 'function'
    )
  ) {
    throw typeMismatch('signal', 'an AbortSignal', signal)
  }
}

function attachStack(error: Error, callerStack: string | undefined): void {
  const frames = callerStack?.split('\n').slice(1).join('\n')
  if (frames) error.stack = `${error.name}: ${error.message}\n${frames}`
}
