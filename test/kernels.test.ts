import { readFile } from 'node:fs/promises'
import test, { type ExecutionContext } from 'ava'
import {
  type Direction,
  DIRECTIONS,
  kernels,
  type Pattern,
  PATTERNS,
  SafetensorsFile,
  type SparseAttentionOptions,
  VilgError,
} from '../lib/index.ts'

/** Floats in [-1, 1), the same every time. */
function floats(count: number, seed: number): Float32Array {
  let state = seed
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return state / 2 ** 31
  })
}

/** |actual - expected| / |expected|; NaN and a wrong length give infinity. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    norm += expected[i]! ** 2
  }
  const error = Math.sqrt(difference / norm)
  return Number.isNaN(error) ? Infinity : error
}

test('the comparer fails where it has to', (t) => {
  t.is(relativeError([1, 2], [1, 2]), 0)
  t.is(relativeError([1], [1, 2]), Infinity)
  t.is(relativeError([NaN, 2], [1, 2]), Infinity)
  t.is(relativeError([0], [0]), Infinity) // nothing was compared
  t.true(relativeError([-1, -2], [-2, -1]) > 0.5)
})

async function rejects(
  t: ExecutionContext,
  promise: Promise<unknown>,
  code: string,
  text: RegExp,
): Promise<void> {
  const error = await t.throwsAsync(promise)
  t.true(error instanceof VilgError, String(error))
  t.is((error as VilgError).code, code as VilgError['code'])
  t.regex(error!.message, text)
}

// --- attends ----------------------------------------------------------------------------------------------------------

test('attends() gives the masks of the fixture, PAD tokens included', async (t) => {
  const folder = 'test/fixtures/generator-tiny'
  const config = JSON.parse(await readFile(`${folder}/config.json`, 'utf8')) as Record<string, number>
  const { textLength, grid, kernel } = config as { textLength: number; grid: number; kernel: number }
  await using file = await SafetensorsFile.open(`${folder}/expected.safetensors`)
  const valid = (await file.read('text_valid')) as Uint8Array
  let masks = 0
  for (const [short, direction] of [
    ['t2i', 'text-to-image'],
    ['i2t', 'image-to-text'],
  ] as const) {
    for (const pattern of ['row', 'column', 'conv'] as const) {
      const name = `mask.${short}.${pattern}`
      const [batch, n] = file.tensors.get(name)!.shape as [number, number]
      t.is(n, textLength + 1 + grid * grid)
      const expected = Uint8Array.from((await file.read(name)) as Uint8Array)
      const actual = new Uint8Array(expected.length)
      for (let b = 0; b < batch; b++) {
        const textValid = valid.slice(b * textLength, (b + 1) * textLength)
        const start = direction === 'text-to-image' ? 0 : n - textLength
        for (let q = 0; q < n; q++) {
          const row = (b * n + q) * n
          for (let k = 0; k < n; k++) {
            actual[row + k] = Number(
              kernels.attends(pattern, direction, q, k, { textLength, grid, kernel, textValid }),
            )
          }
          // nobody reads a PAD query's output; the fixture's sees more than itself
          if (textValid[q - start] === 0) expected.fill(0, row, row + n).fill(1, row + q, row + q + 1)
        }
      }
      t.deepEqual(actual, expected, name)
      masks++
    }
  }
  t.is(masks, 6)
})

test('attends() without textValid takes all text as valid', (t) => {
  const sizes = { textLength: 3, grid: 2, kernel: 3 }
  t.true(kernels.attends('row', 'text-to-image', 4, 2, sizes))
  t.false(kernels.attends('row', 'text-to-image', 4, 2, { ...sizes, textValid: Uint8Array.of(1, 1, 0) }))
})

test('attends() refuses bad arguments', (t) => {
  const sizes = { textLength: 3, grid: 2, kernel: 3 }
  const bad: [unknown[], RegExp][] = [
    [['rows', 'text-to-image', 0, 0, sizes], /one of "row", "column", "conv", "full" for pattern/],
    [['row', 't2i', 0, 0, sizes], /for direction/],
    [['row', 'text-to-image', 8, 0, sizes], /from 0 to 7 for query/],
    [['row', 'text-to-image', 0, -1, sizes], /for key/],
    [['row', 'text-to-image', NaN, 0, sizes], /for query/],
    [['row', 'text-to-image', 0, 0, { ...sizes, kernel: 2 }], /an odd integer for kernel/],
    [['row', 'text-to-image', 0, 0, { ...sizes, grid: 0 }], /for grid/],
    [['row', 'text-to-image', 0, 0, { ...sizes, size: 1 }], /unknown key "size"/],
    [['row', 'text-to-image', 0, 0, { ...sizes, textValid: Uint8Array.of(1) }], /length 3 for textValid/],
    [
      ['row', 'text-to-image', 0, 0, { ...sizes, textValid: Uint8Array.of(1, 2, 0) }],
      /0 or 1 for textValid\[1\]/,
    ],
    [['row', 'text-to-image', 0, 0, undefined], /for sizes/],
  ]
  for (const [args, message] of bad) {
    t.throws(() => Reflect.apply(kernels.attends, kernels, args), { message })
  }
})

// --- attention --------------------------------------------------------------------------------------------------------

/** softmax(scale q . k over the keys that attends() allows) . v, densely, in double precision. */
function denseAttention(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  o: Required<Pick<SparseAttentionOptions, 'batch' | 'heads' | 'headSize'>> & SparseAttentionOptions,
): { out: Float64Array; lse: Float64Array } {
  const n = o.textLength + 1 + o.grid * o.grid
  const d = o.headSize
  const out = new Float64Array(q.length)
  const lse = new Float64Array(q.length / d)
  const scale = o.scale ?? 1 / Math.sqrt(d)
  for (let b = 0; b < o.batch; b++) {
    const sizes = {
      textLength: o.textLength,
      grid: o.grid,
      kernel: o.kernel,
      ...(o.textValid && { textValid: o.textValid.subarray(b * o.textLength, (b + 1) * o.textLength) }),
    }
    for (let i = 0; i < n; i++) {
      const keys = Array.from({ length: n }, (_, j) => j).filter((j) =>
        kernels.attends(o.pattern, o.direction, i, j, sizes),
      )
      for (let h = 0; h < o.heads; h++) {
        const head = (b * o.heads + h) * n
        const dot = (j: number): number => {
          let sum = 0
          for (let c = 0; c < d; c++) sum += q[(head + i) * d + c]! * k[(head + j) * d + c]!
          return scale * sum
        }
        const scores = keys.map(dot)
        const largest = Math.max(...scores)
        const total = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0)
        lse[head + i] = largest + Math.log(total)
        keys.forEach((j, at) => {
          const weight = Math.exp(scores[at]! - largest) / total
          for (let c = 0; c < d; c++) out[(head + i) * d + c]! += weight * v[(head + j) * d + c]!
        })
      }
    }
  }
  return { out, lse }
}

const sizes = { textLength: 5, grid: 4, kernel: 3, batch: 2, heads: 3, headSize: 16 }
const tokens = sizes.textLength + 1 + sizes.grid ** 2
const count = sizes.batch * sizes.heads * tokens * sizes.headSize
const textValid = Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 1, 0, 0)
const cases = PATTERNS.flatMap((pattern) =>
  DIRECTIONS.map((direction): [Pattern, Direction] => [pattern, direction]),
)

for (const backend of ['cpu', 'ref'] as const) {
  test(`sparseAttention is softmax attention under the mask (${backend})`, async (t) => {
    const [q, k, v] = [floats(count, 1), floats(count, 2), floats(count, 3)]
    for (const [pattern, direction] of cases) {
      const options = { ...sizes, pattern, direction, textValid, backend }
      const { out, lse } = await kernels.sparseAttention(q, k, v, options)
      const expected = denseAttention(q, k, v, options)
      // float32 sums of up to 22 products of numbers below 1: a few ulps
      t.true(relativeError(out, expected.out) < 2e-6, `${pattern} ${direction} out`)
      t.true(relativeError(lse, expected.lse) < 2e-6, `${pattern} ${direction} lse`)
    }
  })

  test(`sparseAttentionBackward is its derivative (${backend})`, async (t) => {
    const [q, k, v, dout] = [floats(count, 1), floats(count, 2), floats(count, 3), floats(count, 4)]
    for (const [pattern, direction] of cases) {
      const options = { ...sizes, pattern, direction, textValid, backend }
      const { out, lse } = await kernels.sparseAttention(q, k, v, options)
      const gradients = await kernels.sparseAttentionBackward(q, k, v, out, lse, dout, options)
      // along one direction u: sum(gradient * u) against the central difference of sum(out * dout), in double precision
      for (const [name, x, seed] of [
        ['dq', q, 5],
        ['dk', k, 6],
        ['dv', v, 7],
      ] as const) {
        const u = floats(count, seed)
        const loss = (step: number): number => {
          const moved = x.map((value, i) => value + step * u[i]!)
          const [a, b, c] = [x === q ? moved : q, x === k ? moved : k, x === v ? moved : v]
          return denseAttention(a, b, c, options).out.reduce((sum, value, i) => sum + value * dout[i]!, 0)
        }
        const step = 1e-2
        const numeric = (loss(step) - loss(-step)) / (2 * step)
        const analytic = gradients[name].reduce((sum, value, i) => sum + value * u[i]!, 0)
        // the central difference is off by step^2 / 6 of the third derivative; sums of 2,112 terms of either sign
        t.true(
          Math.abs(numeric - analytic) < 2e-3 * Math.max(1, Math.abs(numeric)),
          `${pattern} ${direction} ${name}: ${numeric} ${analytic}`,
        )
      }
    }
  })
}

test('sparseAttention in bfloat16 is as far off as bfloat16 is', async (t) => {
  const [q, k, v] = [floats(count, 1), floats(count, 2), floats(count, 3)]
  const options = {
    ...sizes,
    pattern: 'conv',
    direction: 'text-to-image',
    textValid,
    precision: 'bfloat16',
  } as const
  const error = relativeError(
    (await kernels.sparseAttention(q, k, v, options)).out,
    denseAttention(q, k, v, options).out,
  )
  t.true(error > 1e-4 && error < 2 ** -8 * 2, String(error)) // 2^-9 per rounding; more than float32 would give
})

test('sparseAttention finds out heads and headSize', async (t) => {
  const stream = { pattern: 'row', direction: 'text-to-image', textLength: 3, grid: 2, kernel: 3 } as const
  const q = floats(2 * 8 * 64, 1)
  // Without workspaceBytes: how much memory was used depends on how many threads took part, and so on what else runs.
  const results = async (sizes: object) => {
    const { out, lse } = await kernels.sparseAttention(q, q, q, { ...stream, ...sizes })
    return { out, lse }
  }
  const full = await results({ batch: 1, heads: 2, headSize: 64 })
  t.deepEqual(await results({}), full)
  t.deepEqual(await results({ heads: 2 }), full)
  const two = await kernels.sparseAttention(q, q, q, { ...stream, textValid: new Uint8Array(6).fill(1) })
  t.is(two.lse.length, 2 * 8)
  await rejects(
    t,
    kernels.sparseAttention(q, q, q, { ...stream, heads: 3 }),
    'ERR_VILG_SHAPE_MISMATCH',
    /heads 3/,
  )
  await rejects(
    t,
    kernels.sparseAttention(q, q, q, { ...stream, grid: 3 }),
    'ERR_VILG_SHAPE_MISMATCH',
    /N x headSize/,
  )
})

// --- matmul and codebook ----------------------------------------------------------------------------------------------

test('matmul with every epilogue, against its definition', async (t) => {
  const [batch, m, n, k] = [2, 5, 7, 9] as const
  const [a, b, bias, residual] = [
    floats(batch * m * k, 1),
    floats(batch * k * n, 2),
    floats(n, 3),
    floats(batch * m * n, 4),
  ]
  const gelu = (x: number): number =>
    0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
  for (const transA of [false, true]) {
    for (const transB of [false, true]) {
      for (const extra of [
        {},
        { bias },
        { gelu: true },
        { residual },
        { bias, gelu: true, residual, alpha: 0.5 },
      ]) {
        for (const backend of ['cpu', 'ref'] as const) {
          const options = { batch, m, n, k, transA, transB, backend, ...extra }
          const expected = Float64Array.from({ length: batch * m * n }, (_, at) => {
            const [z, i, j] = [Math.floor(at / (m * n)), Math.floor(at / n) % m, at % n]
            let sum = 0
            for (let l = 0; l < k; l++) {
              const x = a[z * m * k + (transA ? l * m + i : i * k + l)]!
              const y = b[z * k * n + (transB ? j * k + l : l * n + j)]!
              sum += x * y
            }
            const { alpha = 1 } = extra as { alpha?: number }
            let value = alpha * sum + ('bias' in extra ? bias[j]! : 0)
            if ('gelu' in extra) value = gelu(value)
            return value + ('residual' in extra ? residual[at]! : 0)
          })
          const error = relativeError(await kernels.matmul(a, b, options), expected)
          t.true(
            error < 1e-6,
            `${JSON.stringify({ transA, transB, backend })} ${Object.keys(extra).join()} ${error}`,
          )
        }
      }
    }
  }
})

test('codebookLookup finds the nearest entry, the lowest index on a tie', async (t) => {
  const [rows, size, dim] = [17, 33, 6] as const
  const [vectors, codebook] = [floats(rows * dim, 1), floats(size * dim, 2)]
  codebook.copyWithin(20 * dim, 3 * dim, 4 * dim)
  vectors.set(codebook.subarray(3 * dim, 4 * dim)) // the first vector is entry 3, and entry 20
  for (const backend of ['cpu', 'ref'] as const) {
    const { indices, distances } = await kernels.codebookLookup(vectors, codebook, { size, dim, backend })
    for (let i = 0; i < rows; i++) {
      const all = Array.from({ length: size }, (_, j) =>
        Array.from({ length: dim }, (_, c) => (vectors[i * dim + c]! - codebook[j * dim + c]!) ** 2).reduce(
          (x, y) => x + y,
        ),
      )
      const best = Math.min(...all)
      t.is(indices[i], all.indexOf(best), `row ${i}`)
      t.true(Math.abs(distances[i]! - best) < 1e-5)
    }
    t.is(indices[0], 3)
  }
  const none = await kernels.codebookLookup(new Float32Array(0), codebook, { size, dim })
  t.deepEqual(none, { indices: new Int32Array(0), distances: new Float32Array(0) })
})

// --- what all of them share -------------------------------------------------------------------------------------------

const four = new Float32Array(4).fill(1)
const square = { m: 2, n: 2, k: 2 }

test('the number of threads does not change a bit', async (t) => {
  const [a, b] = [floats(70 * 130, 1), floats(130 * 90, 2)]
  const one = await kernels.matmul(a, b, { m: 70, n: 90, k: 130, threads: 1 })
  t.deepEqual(await kernels.matmul(a, b, { m: 70, n: 90, k: 130, threads: 2 }), one)
  t.deepEqual(await kernels.matmul(a, b, { m: 70, n: 90, k: 130, threads: 5 }), one)
})

test('copy: what it was made from, of any size, and measured', async (t) => {
  for (const bytes of [1, 5, 2 ** 24 - 1, 2 ** 24 + 3]) await kernels.copy(bytes)
  const timings = new Float64Array(3).fill(-1)
  await kernels.copy(100_000, { timings })
  t.true(timings.every((milliseconds) => milliseconds >= 0 && milliseconds < 1000))
  await rejects(t, kernels.copy(0), 'ERR_VILG_INVALID_ARGUMENT', /from 1 .* for bytes/)
  await rejects(t, kernels.copy(1.5), 'ERR_VILG_INVALID_ARGUMENT', /integer/)
  const unknown = { precision: 'float32' } as object
  await rejects(t, kernels.copy(8, unknown), 'ERR_VILG_INVALID_ARGUMENT', /precision/)
})

test('timings: one entry a run', async (t) => {
  const timings = new Float64Array(3).fill(-1)
  await kernels.matmul(four, four, { ...square, timings })
  t.true(timings.every((milliseconds) => milliseconds >= 0 && milliseconds < 1000))
  await rejects(
    t,
    kernels.matmul(four, four, { ...square, timings: new Float64Array(0) }),
    'ERR_VILG_INVALID_ARGUMENT',
    /at least one/,
  )
})

test('abort in the middle of a kernel', async (t) => {
  const controller = new AbortController()
  const timings = new Float64Array(1_000_000)
  const [a, b] = [floats(64 * 64, 1), floats(64 * 64, 2)]
  const promise = kernels.matmul(a, b, { m: 64, n: 64, k: 64, timings, signal: controller.signal })
  setTimeout(() => controller.abort(), 20)
  t.is(await promise.catch((error: unknown) => error), controller.signal.reason as unknown)
  t.true(timings.every((value) => value === 0))
})

test('bad options', async (t) => {
  const call = (options: object): Promise<unknown> =>
    kernels.matmul(four, four, { ...square, ...options } as never)
  const invalid = 'ERR_VILG_INVALID_ARGUMENT'
  await rejects(t, call({ presicion: 'float32' }), invalid, /unknown key "presicion"/)
  await rejects(t, call({ m: 0 }), invalid, /for m/)
  await rejects(t, call({ m: 1.5 }), invalid, /for m/)
  await rejects(t, call({ m: 3 }), 'ERR_VILG_SHAPE_MISMATCH', /length 6 for a/)
  await rejects(t, call({ alpha: NaN }), invalid, /for alpha/)
  await rejects(t, call({ gelu: 1 }), invalid, /for gelu/)
  await rejects(t, call({ bias: four }), 'ERR_VILG_SHAPE_MISMATCH', /length 2 for bias/)
  await rejects(t, call({ threads: 0 }), invalid, /for threads/)
  await rejects(t, call({ backend: 'cuda' }), invalid, /for backend/)
  await rejects(t, call({ device: 'gpu' }), invalid, /for device/)
  await rejects(t, call({ device: 'cuda' }), 'ERR_VILG_UNSUPPORTED', /CUDA is switched off/)
  await rejects(t, call({ device: 'cuda:1' }), 'ERR_VILG_UNSUPPORTED', /CUDA is switched off/)
  await rejects(t, call({ precision: 'float16' }), 'ERR_VILG_UNSUPPORTED', /float16/)
  await rejects(t, call({ precision: 'int8' }), invalid, /for precision/)
  await rejects(t, call({ signal: {} }), invalid, /AbortSignal/)
  await rejects(t, kernels.matmul(four, four, undefined as never), invalid, /for options/)
  await rejects(t, kernels.matmul([1] as never, four, square), invalid, /Float32Array of length 4 for a/)
  const lookup = { size: 2, dim: 2 }
  await rejects(
    t,
    kernels.codebookLookup(four.subarray(1), four, lookup),
    'ERR_VILG_SHAPE_MISMATCH',
    /multiple of 2/,
  )
  await rejects(
    t,
    kernels.codebookLookup(four, four, { ...lookup, size: 3 }),
    'ERR_VILG_SHAPE_MISMATCH',
    /for codebook/,
  )
})

test('attention takes memory that grows with N, not its square', async (t) => {
  for (const pattern of PATTERNS) {
    const workspace: number[] = []
    for (const grid of [16, 32]) {
      const [heads, headSize, textLength] = [2, 64, 127]
      const sizes = {
        grid,
        textLength,
        kernel: 11,
        heads,
        headSize,
        pattern,
        direction: 'text-to-image',
        threads: 1,
      } as const
      const x = floats(heads * (textLength + 1 + grid ** 2) * headSize, 1)
      const { out, lse, workspaceBytes } = await kernels.sparseAttention(x, x, x, sizes)
      const backward = await kernels.sparseAttentionBackward(x, x, x, out, lse, x, sizes)
      workspace.push(Math.max(workspaceBytes, backward.workspaceBytes))
    }
    // N is 384 and 1152: 3 x as long; the allocator may add a quarter to either
    t.true(workspace[0]! > 0 && workspace[1]! <= 3 * 1.25 * workspace[0]!, `${pattern}: ${workspace}`)
  }
})
