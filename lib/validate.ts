import { type ErrorCode, VilgRangeError, VilgTypeError } from './errors.ts'

/** Bounds of a number, both inclusive. Without one, that side is open. */
export interface Range {
  min?: number
  max?: number
}

/** The typed arrays that this library takes. */
export type TypedArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array

/** The constructor of a typed array, such as `Int32Array`. */
export type TypedArrayConstructor<T extends TypedArray = TypedArray> = {
  new (length: number): T
  readonly name: string
}

// The getter on %TypedArray%.prototype names the class by an internal slot. So it sees through subclasses (a Buffer is a
// Uint8Array), cannot be forged, and works for arrays of another realm, where `instanceof` does not (vm contexts, Jest).
const typedArrayName = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)!.get! as (this: unknown) => string | undefined

const longestShown = 60

/** A short text that shows a value of any kind in an error message. Never throws. */
export function describeValue(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length <= longestShown
        ? JSON.stringify(value)
        : `${JSON.stringify(value.slice(0, longestShown))}... (${value.length} characters)`
    case 'bigint': {
      const digits = String(value)
      return digits.length <= longestShown ? `${digits}n` : `a bigint of ${digits.length} digits`
    }
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value)
    case 'function':
      return 'a function'
    case 'object':
      return describeObject(value)
    default:
      return String(value)
  }
}

function describeObject(value: object | null): string {
  if (value === null) return 'null'
  try {
    if (Array.isArray(value)) return `an array of length ${value.length}`
    const typed = typedArrayName.call(value)
    if (typed !== undefined) return `${typed} of length ${(value as TypedArray).length}`
    const name = (Object.getPrototypeOf(value) as object | null)?.constructor?.name
    return typeof name === 'string' && name !== '' && name !== 'Object'
      ? `an instance of ${name}`
      : 'an object'
  } catch {
    return 'an object' // a revoked proxy, or a getter that throws: nothing more can be said of it
  }
}

/** The one place where the text of a bad-argument error is made; `received` is already a description. */
export function expectedText(expected: string, name: string, received: string): string {
  return `Expected ${expected} for ${name}, received ${received}`
}

/** A `TypeError` with code `ERR_VILG_INVALID_ARGUMENT`: `Expected <expected> for <name>, received <value>`. */
export function typeMismatch(name: string, expected: string, value: unknown): VilgTypeError {
  const text = expectedText(expected, name, describeValue(value))
  return new VilgTypeError('ERR_VILG_INVALID_ARGUMENT', text, { argument: name })
}

/**
 * A `RangeError`: `Expected <expected> for <name>, received <value>`.
 *
 * @param code `ERR_VILG_INVALID_ARGUMENT` unless given; `ERR_VILG_SHAPE_MISMATCH` for lengths and shapes
 */
export function outOfRange(
  name: string,
  expected: string,
  value: unknown,
  code: ErrorCode = 'ERR_VILG_INVALID_ARGUMENT',
): VilgRangeError {
  return rangeError(name, expected, describeValue(value), code)
}

/** As {@link outOfRange}, where the value's kind does not say what is wrong with it: `received` is a description. */
export function rangeError(
  name: string,
  expected: string,
  received: string,
  code: ErrorCode = 'ERR_VILG_INVALID_ARGUMENT',
): VilgRangeError {
  return new VilgRangeError(code, expectedText(expected, name, received), { argument: name })
}

function describeRange(noun: string, { min, max }: Range): string {
  if (min !== undefined && max !== undefined) return `${noun} from ${min} to ${max}`
  if (min !== undefined) return `${noun} of at least ${min}`
  if (max !== undefined) return `${noun} of at most ${max}`
  return noun
}

function inRange(value: number, { min = -Infinity, max = Infinity }: Range): boolean {
  return value >= min && value <= max
}

/** Returns `value` if it is a safe integer within `range` (inclusive). NaN, infinities and fractions are out of range. */
export function expectInteger(name: string, value: unknown, range: Range = {}): number {
  const expected = describeRange('an integer', range)
  if (typeof value !== 'number') throw typeMismatch(name, expected, value)
  if (!Number.isSafeInteger(value) || !inRange(value, range)) throw outOfRange(name, expected, value)
  return value
}

/** Returns `value` if it is a finite number within `range` (inclusive). NaN and infinities are out of every range. */
export function expectNumber(name: string, value: unknown, range: Range = {}): number {
  const expected = describeRange('a finite number', range)
  if (typeof value !== 'number') throw typeMismatch(name, expected, value)
  if (!Number.isFinite(value) || !inRange(value, range)) throw outOfRange(name, expected, value)
  return value
}

/** Returns `value` if it is a string. The empty string is one. */
export function expectString(name: string, value: unknown): string {
  if (typeof value !== 'string') throw typeMismatch(name, 'a string', value)
  return value
}

/** Returns `value` if it is `true` or `false`. */
export function expectBoolean(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw typeMismatch(name, 'true or false', value)
  return value
}

/** Returns `value` if it is one of `allowed`, else an error that lists them. */
export function expectOneOf<const T extends string | number>(
  name: string,
  value: unknown,
  allowed: readonly T[],
): T {
  if ((allowed as readonly unknown[]).includes(value)) return value as T
  const expected = `one of ${allowed.map(describeValue).join(', ')}`
  if (!allowed.some((one) => typeof one === typeof value)) throw typeMismatch(name, expected, value)
  throw outOfRange(name, expected, value)
}

/**
 * Returns `value` if it is a typed array of just this kind, of `length` elements where given.
 *
 * Refused are detached buffers (their data went elsewhere), SharedArrayBuffers and resizable buffers: another thread could
 * change the data, or its extent, while native code reads it. An array with an offset into its buffer is fine.
 */
export function expectTypedArray<T extends TypedArray>(
  name: string,
  value: unknown,
  kind: TypedArrayConstructor<T>,
  length?: number,
): T {
  const expected = length === undefined ? kind.name : `${kind.name} of length ${length}`
  if (typedArrayName.call(value) !== kind.name) throw typeMismatch(name, expected, value)
  const array = value as T
  const fault = bufferFault(array.buffer)
  if (fault !== undefined) {
    const text = expectedText(`${expected} over an ordinary ArrayBuffer`, name, `one over a ${fault}`)
    throw new VilgTypeError('ERR_VILG_INVALID_ARGUMENT', text, { argument: name })
  }
  if (length !== undefined && array.length !== length) {
    throw outOfRange(name, expected, value, 'ERR_VILG_SHAPE_MISMATCH')
  }
  return array
}

function bufferFault(buffer: ArrayBufferLike): string | undefined {
  // By tag, not instanceof, for buffers of other realms.
  if (Object.prototype.toString.call(buffer) === '[object SharedArrayBuffer]') return 'SharedArrayBuffer'
  if ((buffer as { resizable?: boolean }).resizable === true) return 'resizable ArrayBuffer'
  // Node 20 has no `detached` getter; a detached buffer has no bytes and refuses new views.
  if (buffer.byteLength === 0) {
    try {
      new Uint8Array(buffer)
    } catch {
      return 'detached ArrayBuffer'
    }
  }
  return undefined
}

/** Returns the numbers of a list or typed array of `count` numbers, infinities included, as an array. */
export function expectNumbers(name: string, value: unknown, count: number): number[] {
  const isList = typeof value === 'object' && value !== null
  const list = isList ? Array.from(value as ArrayLike<unknown>) : []
  if (list.length !== count || list.some((one) => typeof one !== 'number' || Number.isNaN(one))) {
    throw outOfRange(name, `${count} numbers`, value)
  }
  return list as number[]
}

/**
 * Throws if `options` has a key outside `allowedKeys`, so that no misspelt option is ever silently ignored. `undefined`
 * stands for no options.
 *
 * @param name what the options are called in the error, such as `encode options`
 */
export function rejectUnknownKeys(name: string, options: unknown, allowedKeys: readonly string[]): void {
  if (options === undefined) return
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw typeMismatch(name, 'an object', options)
  }
  for (const key of Object.keys(options)) {
    if (allowedKeys.includes(key)) continue
    const expected = allowedKeys.length === 0 ? 'no keys' : `only the keys ${allowedKeys.join(', ')}`
    const text = expectedText(expected, name, `the unknown key ${describeValue(key)}`)
    throw new VilgTypeError('ERR_VILG_INVALID_ARGUMENT', text, { argument: name, key })
  }
}
