import test, { type ExecutionContext } from 'ava'
import type { NativeBinding, NativeMatmulOptions } from '../../types/native.d.ts'
import { VilgError } from '../../lib/errors.ts'
import { native } from '../../lib/native/binding.ts'

// The native side's own checks: lib/ would catch most of this before.

type Anything = (...args: unknown[]) => unknown

function refuses(t: ExecutionContext, call: () => unknown, code: string, text: RegExp): void {
  const error = t.throws(call, { any: true }) as unknown
  t.true(error instanceof VilgError, String(error))
  t.is((error as VilgError).code, code as VilgError['code'])
  t.regex((error as VilgError).message, text)
  t.regex(String((error as VilgError).details?.['source']), /^csrc\/.*:\d+$/)
}

const run = { backend: 'cpu', precision: 'float32', threads: 0, timings: 1 } as const
const matmul: NativeMatmulOptions = {
  ...run,
  m: 1,
  n: 1,
  k: 2,
  batch: 1,
  transA: false,
  transB: false,
  alpha: 1,
  gelu: false,
}
const two = new Float32Array([2, 3])

const notNumbers: unknown[] = [undefined, null, true, '1', 1n, Symbol('s'), {}, [], () => 1]
const notIntegers: unknown[] = [...notNumbers, NaN, Infinity, -Infinity, 1.5, 2 ** 53, -1]

test('integers', (t) => {
  for (const value of [...notIntegers, 0, 1025]) {
    refuses(
      t,
      () => native().setThreads(value as number),
      'ERR_VILG_INVALID_ARGUMENT',
      /from 1 to 1024 for threads, received/,
    )
  }
})

test('numbers, booleans, strings and choices inside options', (t) => {
  const call = native().matmul as Anything
  for (const value of [...notNumbers, NaN, Infinity, -Infinity]) {
    refuses(
      t,
      () => call(two, two, { ...matmul, alpha: value }),
      'ERR_VILG_INVALID_ARGUMENT',
      /for options\.alpha/,
    )
  }
  for (const value of [undefined, null, 0, 1, 'true', {}]) {
    refuses(
      t,
      () => call(two, two, { ...matmul, gelu: value }),
      'ERR_VILG_INVALID_ARGUMENT',
      /true or false for options\.gelu/,
    )
  }
  for (const value of [undefined, null, 0, 'float64', '', {}]) {
    refuses(
      t,
      () => call(two, two, { ...matmul, precision: value }),
      'ERR_VILG_INVALID_ARGUMENT',
      /one of float32, bfloat16/,
    )
  }
  for (const value of [undefined, null, 5, 'options', Symbol('s')]) {
    refuses(t, () => call(two, two, value), 'ERR_VILG_INVALID_ARGUMENT', /an object for options/)
  }
  for (const value of [undefined, null, 7, {}, []]) {
    refuses(t, () => native().setIsa(value as string), 'ERR_VILG_INVALID_ARGUMENT', /a string for isa/)
    refuses(
      t,
      () => native().openSafetensors(value as string),
      'ERR_VILG_INVALID_ARGUMENT',
      /a string for path/,
    )
  }
})

test('a getter that throws ends the call with its own error', (t) => {
  const mine = new Error('mine')
  const options = {
    get backend(): never {
      throw mine
    },
  }
  t.is(t.throws(() => (native().matmul as Anything)(two, two, options)) as unknown, mine)
})

test('typed arrays', (t) => {
  const call = native().matmul as Anything
  const other = [
    new Float64Array(2),
    new Int32Array(2),
    new Uint8Array(8),
    new DataView(new ArrayBuffer(8)),
    new ArrayBuffer(8),
  ]
  for (const value of [...notNumbers, 2, ...other]) {
    refuses(
      t,
      () => call(value, two, matmul),
      'ERR_VILG_INVALID_ARGUMENT',
      /Expected Float32Array for a, received/,
    )
  }
  for (const length of [0, 1, 3]) {
    refuses(
      t,
      () => call(new Float32Array(length), two, matmul),
      'ERR_VILG_SHAPE_MISMATCH',
      /length 2 for a, received/,
    )
  }
  const shared = new Float32Array(new SharedArrayBuffer(8))
  refuses(t, () => call(shared, two, matmul), 'ERR_VILG_INVALID_ARGUMENT', /SharedArrayBuffer/)
  const detached = new Float32Array(2)
  structuredClone(detached, { transfer: [detached.buffer] })
  refuses(t, () => call(detached, two, matmul), 'ERR_VILG_INVALID_ARGUMENT', /detached/)
})

test('a subarray is read from its offset, and its buffer may be given away at once', async (t) => {
  const buffer = Float32Array.of(9, 9, 2, 3, 9)
  const a = buffer.subarray(2, 4)
  const promise = native().matmul(a, Float32Array.of(10, 100), matmul)
  structuredClone(buffer, { transfer: [buffer.buffer] })
  t.deepEqual((await promise).out, Float32Array.of(320))
})

test('sizes whose product does not fit', (t) => {
  const huge = 2 ** 31
  refuses(
    t,
    () => native().matmul(two, two, { ...matmul, m: huge, k: huge, batch: huge }),
    'ERR_VILG_INVALID_ARGUMENT',
    /product/,
  )
})

test('classes: wrong this, no new, disposed', (t) => {
  const { StopFlag, SafetensorsFile } = native()
  const flag = new StopFlag()
  const other = { raised: false }
  const { raise, dispose } = flag
  const get = Object.getOwnPropertyDescriptor(StopFlag.prototype, 'raised')!.get!
  for (const method of [raise, dispose, get]) {
    for (const receiver of [other, new Float32Array(1), Object.create(StopFlag.prototype) as object]) {
      t.throws(
        () => Reflect.apply(method, receiver, []),
        { any: true },
        `${method.name} on ${String(receiver)}`,
      )
    }
    for (const receiver of [undefined, null, 1, 'x'])
      t.throws(() => Reflect.apply(method, receiver, []), { any: true })
  }
  refuses(t, () => (StopFlag as unknown as () => void)(), 'ERR_VILG_INVALID_ARGUMENT', /call it with new/)
  refuses(t, () => new SafetensorsFile(), 'ERR_VILG_UNSUPPORTED', /not by new/)
  t.false(flag.raised)
  flag.raise()
  t.true(flag.raised)
  t.false(flag.disposed)
  flag.dispose()
  flag.dispose()
  t.true(flag.disposed)
  refuses(t, () => flag.raise(), 'ERR_VILG_DISPOSED', /StopFlag was disposed/)
  refuses(t, () => flag.raised, 'ERR_VILG_DISPOSED', /StopFlag was disposed/)
})

test('the task control is checked', (t) => {
  const call = native().matmul as Anything
  for (const control of [null, 1, 'x']) {
    refuses(t, () => call(two, two, matmul, control), 'ERR_VILG_INVALID_ARGUMENT', /an object for control/)
  }
  for (const stop of [null, {}, 1, new (class StopFlag {})()]) {
    refuses(
      t,
      () => call(two, two, matmul, { stop }),
      'ERR_VILG_INVALID_ARGUMENT',
      /a StopFlag for control\.stop/,
    )
  }
  const disposed = new (native().StopFlag)()
  disposed.dispose()
  refuses(t, () => call(two, two, matmul, { stop: disposed }), 'ERR_VILG_DISPOSED', /disposed/)
  refuses(
    t,
    () => call(two, two, matmul, { onProgress: 1 }),
    'ERR_VILG_INVALID_ARGUMENT',
    /a function for control\.onProgress/,
  )
})

test('a handle of one class is not taken for another', async (t) => {
  const { SafetensorsFile, StopFlag } = native()
  const file = await native().openSafetensors('test/fixtures/generator-tiny/weights.safetensors')
  const flag = new StopFlag()
  const { read } = file
  // V8's own receiver check may come first; either way it does not read a flag as a file
  t.throws(() => Reflect.apply(read, flag, ['final_norm.bias']), { any: true })
  t.throws(() => Reflect.apply(flag.raise, file, []), { any: true })
  const graft = Object.setPrototypeOf(flag, SafetensorsFile.prototype) as typeof file
  t.throws(() => graft.read('final_norm.bias'), { any: true })
  t.throws(() => graft.tensors, { any: true })
  file.dispose()
})

test('no argument at all', (t) => {
  const exports: NativeBinding = native()
  for (const [name, value] of Object.entries(exports) as [string, unknown][]) {
    if (typeof value !== 'function' || ['backendInfo', 'errorCodes', 'StopFlag'].includes(name)) continue
    const call = value as Anything
    t.throws(() => call(), { any: true }, name)
  }
})
