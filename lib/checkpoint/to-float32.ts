import type { TensorArray, TensorDtype } from './tensor-dtypes.ts'

/**
 * Elements as float32: F32 as they are, F16 and BF16 exactly, F64 and integers rounded to the nearest; booleans are 0 and 1.
 *
 * @param elements as {@link TensorArray} has them, so bit patterns for F16 and BF16
 */
export function toFloat32(dtype: TensorDtype, elements: TensorArray): Float32Array {
  if (dtype === 'F32') return elements as Float32Array
  const out = new Float32Array(elements.length)
  if (dtype === 'BF16') {
    const bits = new Uint32Array(out.buffer)
    for (let i = 0; i < bits.length; i++) bits[i] = (elements[i] as number) << 16
  } else if (dtype === 'F16') {
    const table = halves()
    for (let i = 0; i < out.length; i++) out[i] = table[elements[i] as number]!
  } else {
    for (let i = 0; i < out.length; i++) out[i] = Number(elements[i])
  }
  return out
}

let halfTable: Float32Array | undefined

/** The value of each of the 65,536 float16 bit patterns. */
function halves(): Float32Array {
  if (halfTable !== undefined) return halfTable
  const table = new Float32Array(2 ** 16)
  const bits = new Uint32Array(table.buffer)
  for (let half = 0; half < table.length; half++) {
    const sign = (half & 0x8000) << 16
    const exponent = (half >> 10) & 0x1f
    const fraction = half & 0x3ff
    if (exponent === 0) {
      // zero and subnormals, exact in float32
      table[half] = (sign === 0 ? 1 : -1) * fraction * 2 ** -24
    } else {
      // 112 is the difference of the two exponents' biases; 31 stands for infinity and NaN
      bits[half] = sign | ((exponent === 31 ? 255 : exponent + 112) << 23) | (fraction << 13)
    }
  }
  halfTable = table
  return table
}
