/** What attention works on; all of one shape. */
export interface AttentionArrays {
  q: Float32Array
  k: Float32Array
  v: Float32Array
  /** The gradient of the output. */
  dout: Float32Array
}

/**
 * One head's attention and gradients as the textbook has them, in double precision: `length` rows of `headSize` from the arrays' beginning,
 * where `sees` says which keys a query has.
 */
export function referenceHead(
  { q, k, v, dout }: AttentionArrays,
  { length, headSize }: { length: number; headSize: number },
  sees: (query: number, key: number) => boolean,
) {
  const [out, dq, dk, dv] = [0, 1, 2, 3].map(() => new Float64Array(length * headSize)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ]
  const scale = 1 / Math.sqrt(headSize)
  const dot = (a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number) => {
    let sum = 0
    for (let d = 0; d < headSize; d++) sum += a[i * headSize + d]! * b[j * headSize + d]!
    return sum
  }
  const add = (to: Float64Array, i: number, factor: number, from: ArrayLike<number>, j: number) => {
    for (let d = 0; d < headSize; d++) to[i * headSize + d]! += factor * from[j * headSize + d]!
  }
  for (let query = 0; query < length; query++) {
    const keys: number[] = []
    for (let key = 0; key < length; key++) if (sees(query, key)) keys.push(key)
    const weights = keys.map((key) => Math.exp(scale * dot(q, query, k, key)))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    keys.forEach((key, i) => add(out, query, (weights[i]! /= total), v, key))
    const mean = dot(dout, query, out, query)
    keys.forEach((key, i) => {
      const dscore = scale * weights[i]! * (dot(dout, query, v, key) - mean)
      add(dv, key, weights[i]!, dout, query)
      add(dq, query, dscore, k, key)
      add(dk, key, dscore, q, query)
    })
  }
  return { out, dq, dk, dv }
}

/** One head of arrays of many, each of `size` numbers. */
export function oneHead(arrays: AttentionArrays, head: number, size: number): AttentionArrays {
  const part = (array: Float32Array) => array.subarray(head * size, (head + 1) * size)
  return { q: part(arrays.q), k: part(arrays.k), v: part(arrays.v), dout: part(arrays.dout) }
}
