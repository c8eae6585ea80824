import { kernels } from '../lib/kernels.ts'
import { expectError, Random, roundToBfloat16 } from './data.ts'
import { matmulFlops } from './flops.ts'
import type { Trial } from './trial.ts'

const size = 2048

/** A square matrix product against the peak of its instructions. */
export function matmulTrial(precision: 'float32' | 'bfloat16', share: number): Trial {
  return {
    description: `A matrix product of ${size} x ${size} x ${size} in ${precision}, against the peak of a loop of its instructions.`,
    async setup() {
      const random = new Random(1)
      const a = random.floats(size * size)
      const b = random.floats(size * size)
      const options = { m: size, n: size, k: size, precision }
      return {
        cases: [
          {
            name: 'square',
            title: `matmul ${precision}, ${size} cubed`,
            work: { flops: matmulFlops(size, size, size) },
            limit: `${precision}Flops`,
            target: { kind: 'share', atLeast: share },
            check: async () => checkProduct(await kernels.matmul(a, b, options), a, b, size, precision),
            async run(repeats) {
              const timings = new Float64Array(repeats)
              await kernels.matmul(a, b, { ...options, timings })
              return [...timings]
            },
          },
        ],
      }
    },
  }
}

/** Throws unless `c`, in 200 places, is the product of two square matrices of this side, whose elements `precision` has rounded. */
export function checkProduct(
  c: Float32Array,
  a: Float32Array,
  b: Float32Array,
  size: number,
  precision: 'float32' | 'bfloat16',
): void {
  const random = new Random(11)
  const round = precision === 'bfloat16' ? roundToBfloat16 : (value: number) => value
  for (let i = 0; i < 200; i++) {
    const [row, column] = [random.integer(size), random.integer(size)]
    let [sum, magnitude] = [0, 0]
    for (let k = 0; k < size; k++) {
      const product = round(a[row * size + k]!) * round(b[k * size + column]!)
      sum += product
      magnitude += Math.abs(product)
    }
    // k products and k sums in float32, each off by at most half an ulp, whatever their order
    const bound = size * 2 ** -23 * magnitude
    expectError(`c[${row}, ${column}] = ${sum}`, Math.abs(c[row * size + column]! - sum), bound)
  }
}
