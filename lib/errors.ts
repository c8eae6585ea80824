/**
 * Every code an error of this library may carry. The native side has the same list; a code never changes its meaning.
 *
 * - `INVALID_ARGUMENT`: a value of the wrong type or outside its range, or an unknown option key.
 * - `SHAPE_MISMATCH`: an array whose length or shape does not fit the others or the model.
 * - `UNSUPPORTED`: a feature that this build, device or model kind does not have.
 * - `DISPOSED`: a call on an object after `dispose()`.
 * - `BUSY`: a call that may not overlap with the one still running.
 * - `OUT_OF_MEMORY`: host or device memory does not suffice.
 * - `CUDA`: a CUDA call failed. `DEVICE_LOST`: the device context is unusable from now on.
 * - `CHECKPOINT_FORMAT`: a file that is damaged or not of its format.
 * - `CHECKPOINT_INCOMPATIBLE`: a sound file that does not fit the config.
 * - `DIVERGED`: training came to a loss or gradient that is not finite; the weights are those before that step.
 * - `IO`: reading or writing failed. `NATIVE_LOAD`: the native addon could not be loaded.
 * - `INTERNAL`: a bug in this library.
 */
export const ERROR_CODES = Object.freeze([
  'ERR_VILG_INVALID_ARGUMENT',
  'ERR_VILG_SHAPE_MISMATCH',
  'ERR_VILG_UNSUPPORTED',
  'ERR_VILG_DISPOSED',
  'ERR_VILG_BUSY',
  'ERR_VILG_OUT_OF_MEMORY',
  'ERR_VILG_CUDA',
  'ERR_VILG_DEVICE_LOST',
  'ERR_VILG_CHECKPOINT_FORMAT',
  'ERR_VILG_CHECKPOINT_INCOMPATIBLE',
  'ERR_VILG_DIVERGED',
  'ERR_VILG_IO',
  'ERR_VILG_NATIVE_LOAD',
  'ERR_VILG_INTERNAL',
] as const)

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number]

/** What an error carries beside its message: names and numbers a program may act on. */
export type ErrorDetails = Readonly<Record<string, unknown>>

// In the global registry, so that errors of two copies of the package in one process know each other.
const brand = Symbol.for('ernie-vilg.error')

/**
 * An error of this library.
 *
 * Bad arguments are a `TypeError` or a `RangeError`, as JavaScript programmers expect, and a class has one parent only. So
 * `instanceof VilgError` asks for the mark that all errors of this library bear: it holds for {@link VilgTypeError} and
 * {@link VilgRangeError} too, and one `catch` that switches on `code` sees them all.
 */
export class VilgError extends Error {
  /** What went wrong, for programs. */
  readonly code: ErrorCode
  // `declare`, since a plain field would put `details: undefined` on every instance.
  /** Names and numbers that belong to the error, where there are any. */
  declare readonly details?: ErrorDetails

  /**
   * @param code one of {@link ERROR_CODES}
   * @param message what was expected, what was given, what to do
   * @param details names and numbers a program may act on
   * @param options `cause`: the error that led to this one
   */
  constructor(code: ErrorCode, message: string, details?: ErrorDetails, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    if (details !== undefined) this.details = details
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== VilgError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return typeof value === 'object' && value !== null && brand in value
  }
}

/** A value of the wrong type: a `TypeError` with a `code`. */
export class VilgTypeError extends TypeError {
  /** What went wrong, for programs. */
  readonly code: ErrorCode
  /** Names and numbers that belong to the error, where there are any. */
  declare readonly details?: ErrorDetails

  /** The arguments are those of {@link VilgError}. */
  constructor(code: ErrorCode, message: string, details?: ErrorDetails, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    if (details !== undefined) this.details = details
  }
}

/** A value of the right type that is out of its range: a `RangeError` with a `code`. */
export class VilgRangeError extends RangeError {
  /** What went wrong, for programs. */
  readonly code: ErrorCode
  /** Names and numbers that belong to the error, where there are any. */
  declare readonly details?: ErrorDetails

  /** The arguments are those of {@link VilgError}. */
  constructor(code: ErrorCode, message: string, details?: ErrorDetails, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    if (details !== undefined) this.details = details
  }
}

// On the prototypes, not the instances: console.log of an error then shows code and details and nothing else. The names of
// the two built-in kinds stay ('TypeError', 'RangeError'), as those of Node's own coded errors do.
for (const kind of [VilgError, VilgTypeError, VilgRangeError]) {
  Object.defineProperty(kind.prototype, brand, { value: true })
}
Object.defineProperty(VilgError.prototype, 'name', { value: 'VilgError', writable: true, configurable: true })
