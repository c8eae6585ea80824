import { inspect } from 'node:util'
import test from 'ava'
import { ERROR_CODES, VilgError, VilgRangeError, VilgTypeError } from '../lib/errors.ts'

test('the list of codes is frozen, unique and of one form', (t) => {
  t.true(Object.isFrozen(ERROR_CODES))
  t.is(ERROR_CODES.length, 14)
  t.is(new Set(ERROR_CODES).size, ERROR_CODES.length)
  for (const code of ERROR_CODES) t.regex(code, /^ERR_VILG_[A-Z_]+$/)
})

test('an error has name, code, details, cause and a stack', (t) => {
  const cause = new Error('disk full')
  const error = new VilgError('ERR_VILG_IO', 'could not write', { path: 'a' }, { cause })
  t.is(error.name, 'VilgError')
  t.is(error.code, 'ERR_VILG_IO')
  t.deepEqual(error.details, { path: 'a' })
  t.is(error.cause, cause)
  t.true(error instanceof Error)
  t.true(error.stack!.startsWith('VilgError: could not write'))
  t.true(error.stack!.includes('errors.test.ts'))
  t.deepEqual(Object.keys(new VilgError('ERR_VILG_IO', 'x')), ['code'])
  t.regex(inspect(error), /ERR_VILG_IO/)
})

test('argument errors are the built-in kind and a VilgError at once', (t) => {
  const type = new VilgTypeError('ERR_VILG_INVALID_ARGUMENT', 'x')
  const range = new VilgRangeError('ERR_VILG_SHAPE_MISMATCH', 'y', { a: 1 })
  t.true(type instanceof TypeError && (type as unknown) instanceof VilgError)
  t.true(range instanceof RangeError && (range as unknown) instanceof VilgError)
  t.false((type as unknown) instanceof RangeError)
  t.is(type.name, 'TypeError')
  t.is(range.name, 'RangeError')
  t.is(range.code, 'ERR_VILG_SHAPE_MISMATCH')
  t.deepEqual(range.details, { a: 1 })
})

test('foreign values are no VilgError', (t) => {
  for (const value of [new Error('x'), new TypeError('x'), null, undefined, 1, 'x', {}, () => {}]) {
    t.false((value as unknown) instanceof VilgError)
  }
})

test('a subclass keeps ordinary instanceof', (t) => {
  class Narrow extends VilgError {}
  t.true(new Narrow('ERR_VILG_IO', 'x') instanceof Narrow)
  t.true(new Narrow('ERR_VILG_IO', 'x') instanceof VilgError)
  t.false((new VilgError('ERR_VILG_IO', 'x') as unknown) instanceof Narrow)
})
