import vm from 'node:vm'
import test, { type ExecutionContext } from 'ava'
import { type ErrorCode, VilgError } from '../lib/errors.ts'
import {
  describeValue,
  expectBoolean,
  expectInteger,
  expectNumber,
  expectNumbers,
  expectOneOf,
  expectString,
  expectTypedArray,
  rejectUnknownKeys,
} from '../lib/validate.ts'

type Kind = typeof TypeError | typeof RangeError

function refuses(
  t: ExecutionContext,
  call: () => unknown,
  kind: Kind,
  message: string,
  code: ErrorCode = 'ERR_VILG_INVALID_ARGUMENT',
) {
  const error = t.throws(call, { instanceOf: kind, message, code })
  t.true((error as unknown) instanceof VilgError)
}

test('expectInteger', (t) => {
  t.is(expectInteger('n', 3, { min: 3, max: 3 }), 3)
  t.is(expectInteger('n', -5), -5)
  const range = { min: 1, max: 8 }
  const text = 'Expected an integer from 1 to 8 for n, received '
  for (const bad of [NaN, Infinity, -Infinity, 1.5, 0, 9, 2 ** 53]) {
    refuses(t, () => expectInteger('n', bad, range), RangeError, text + bad)
  }
  refuses(t, () => expectInteger('n', '3', range), TypeError, text + '"3"')
  refuses(t, () => expectInteger('n', 3n, range), TypeError, text + '3n')
  refuses(t, () => expectInteger('n', undefined, range), TypeError, text + 'undefined')
  refuses(
    t,
    () => expectInteger('n', 0, { min: 1 }),
    RangeError,
    'Expected an integer of at least 1 for n, received 0',
  )
  refuses(
    t,
    () => expectInteger('n', 2, { max: 1 }),
    RangeError,
    'Expected an integer of at most 1 for n, received 2',
  )
})

test('expectNumber rejects NaN and infinities, with bounds or without', (t) => {
  t.is(expectNumber('x', 0.5, { min: 0.5, max: 1 }), 0.5)
  for (const bad of [NaN, Infinity, -Infinity]) {
    refuses(t, () => expectNumber('x', bad), RangeError, `Expected a finite number for x, received ${bad}`)
  }
  refuses(
    t,
    () => expectNumber('x', 1.01, { min: 0, max: 1 }),
    RangeError,
    'Expected a finite number from 0 to 1 for x, received 1.01',
  )
  refuses(t, () => expectNumber('x', null), TypeError, 'Expected a finite number for x, received null')
})

test('expectNumbers takes lists and typed arrays of that length, infinities included, and no NaN', (t) => {
  t.deepEqual(expectNumbers('x', [1, -Infinity], 2), [1, -Infinity])
  t.deepEqual(expectNumbers('x', new Float32Array([0.5]), 1), [0.5])
  t.deepEqual(expectNumbers('x', [], 0), [])
  for (const bad of [[1], [1, 2, 3], [1, NaN], [1, '2'], new Array(2), '12', null, undefined]) {
    t.throws(() => expectNumbers('x', bad, 2), {
      instanceOf: RangeError,
      code: 'ERR_VILG_INVALID_ARGUMENT',
      message: /2 numbers for x/,
    })
  }
})

test('expectString, expectBoolean', (t) => {
  t.is(expectString('s', ''), '')
  t.is(expectBoolean('b', false), false)
  refuses(t, () => expectString('s', 1), TypeError, 'Expected a string for s, received 1')
  refuses(t, () => expectBoolean('b', 0), TypeError, 'Expected true or false for b, received 0')
})

test('expectOneOf', (t) => {
  const allowed = ['cpu', 'cuda'] as const
  const device: 'cpu' | 'cuda' = expectOneOf('device', 'cuda', allowed)
  t.is(device, 'cuda')
  const text = 'Expected one of "cpu", "cuda" for device, received '
  refuses(t, () => expectOneOf('device', 'tpu', allowed), RangeError, text + '"tpu"')
  refuses(t, () => expectOneOf('device', 1, allowed), TypeError, text + '1')
  refuses(t, () => expectOneOf('device', 'toString', allowed), RangeError, text + '"toString"')
})

test('expectTypedArray takes offsets, subclasses and other realms', (t) => {
  const whole = Int32Array.of(1, 2, 3, 4)
  const part = whole.subarray(1, 3)
  t.is(expectTypedArray('ids', part, Int32Array, 2), part)
  t.is(expectTypedArray('bytes', Buffer.from('abc'), Uint8Array).length, 3)
  t.is(expectTypedArray('ids', new Int32Array(0), Int32Array, 0).length, 0)
  const foreign: unknown = vm.runInNewContext('Int32Array.of(7)')
  t.is(expectTypedArray('ids', foreign, Int32Array, 1)[0], 7)
})

test('expectTypedArray rejects the wrong kind and the wrong length', (t) => {
  const text = 'Expected Int32Array of length 2 for ids, received '
  refuses(
    t,
    () => expectTypedArray('ids', new Uint32Array(2), Int32Array, 2),
    TypeError,
    text + 'Uint32Array of length 2',
  )
  refuses(t, () => expectTypedArray('ids', [1, 2], Int32Array, 2), TypeError, text + 'an array of length 2')
  refuses(
    t,
    () => expectTypedArray('ids', new Int32Array(3), Int32Array, 2),
    RangeError,
    text + 'Int32Array of length 3',
    'ERR_VILG_SHAPE_MISMATCH',
  )
  const forged = { [Symbol.toStringTag]: 'Int32Array', length: 2 }
  refuses(t, () => expectTypedArray('ids', forged, Int32Array, 2), TypeError, text + 'an object')
})

test('expectTypedArray rejects detached, shared and resizable buffers', (t) => {
  const text = 'Expected Int32Array over an ordinary ArrayBuffer for ids, received one over a '
  const detached = new Int32Array(4)
  structuredClone(detached.buffer, { transfer: [detached.buffer] })
  refuses(t, () => expectTypedArray('ids', detached, Int32Array), TypeError, text + 'detached ArrayBuffer')
  const shared = new Int32Array(new SharedArrayBuffer(8))
  refuses(t, () => expectTypedArray('ids', shared, Int32Array), TypeError, text + 'SharedArrayBuffer')
  const Resizable = ArrayBuffer as unknown as new (size: number, options: object) => ArrayBuffer
  const resizable = new Int32Array(new Resizable(8, { maxByteLength: 16 }))
  refuses(t, () => expectTypedArray('ids', resizable, Int32Array), TypeError, text + 'resizable ArrayBuffer')
})

test('rejectUnknownKeys', (t) => {
  t.notThrows(() => rejectUnknownKeys('options', undefined, []))
  t.notThrows(() => rejectUnknownKeys('options', { seed: undefined }, ['seed']))
  refuses(
    t,
    () => rejectUnknownKeys('options', { sede: 1 }, ['seed', 'topK']),
    TypeError,
    'Expected only the keys seed, topK for options, received the unknown key "sede"',
  )
  refuses(
    t,
    () => rejectUnknownKeys('options', { a: undefined }, []),
    TypeError,
    'Expected no keys for options, received the unknown key "a"',
  )
  for (const [bad, shown] of [
    [null, 'null'],
    [3, '3'],
    [[], 'an array of length 0'],
  ] as const) {
    const text = `Expected an object for options, received ${shown}`
    refuses(t, () => rejectUnknownKeys('options', bad, []), TypeError, text)
  }
})

test('describeValue is short and never throws', (t) => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const hostile = Object.create({
    get constructor() {
      throw new Error('no')
    },
  }) as object
  t.is(describeValue(proxy), 'an object')
  t.is(describeValue(hostile), 'an object')
  t.is(describeValue(Object.create(null)), 'an object')
  t.is(describeValue(-0), '-0')
  t.is(describeValue(Symbol('a')), 'Symbol(a)')
  t.is(describeValue(new Date(0)), 'an instance of Date')
  t.true(describeValue('x'.repeat(1e6)).length < 100)
  t.true(describeValue(10n ** 500n).length < 100)
})
