import { type ErrorDetails, VilgError } from '../errors.ts'

/** An `ERR_VILG_CHECKPOINT_FORMAT`: a file that is damaged or not of its format. Its path is added by {@link inFile}. */
export function formatError(message: string, details?: ErrorDetails): VilgError {
  return new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, details)
}

/** An `ERR_VILG_UNSUPPORTED`: a sound file that has something in it which this library does not read. */
export function unsupported(message: string, details?: ErrorDetails): VilgError {
  return new VilgError('ERR_VILG_UNSUPPORTED', message, details)
}

/** Runs work on a file: errors of this library that do not say which file they are about get its path. */
export async function inFile<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw withPath(path, error)
  }
}

/** The error with the path before its message and in its details, where it is one of this library without a path. */
export function withPath(path: string, error: unknown): unknown {
  if (!(error instanceof VilgError) || error.details?.['path'] !== undefined) return error
  const details: ErrorDetails = { path, ...error.details }
  return new VilgError(error.code, `${path}: ${error.message}`, details, { cause: error })
}
