// ru-dalle's DalleModel as its code has it (rudalle/dalle/model.py, transformer.py, image_attention.py), in double precision and by
// dense masks: what both of its versions are held against, the first of which is also in a fixture.

export interface ReferenceConfig {
  layers: number
  heads: number
  textLength: number
  textVocab: number
  grid: number
  version: 'v2' | 'v3'
}

type Weights = ReadonlyMap<string, Float32Array>
type Matrix = Float64Array[]

const epsilon = 1e-5
const kernel = 11

/** The logits of every position of the stream, text and image vocabulary side by side. */
export function ruDalleLogits(
  weights: Weights,
  config: ReferenceConfig,
  text: readonly number[],
  image: readonly number[],
): Matrix {
  const { layers, textLength, textVocab, grid, version } = config
  const weight = (name: string) => weights.get(name)!
  const hidden = weight('to_logits.0.weight').length
  const row = (name: string, index: number) => weight(name).subarray(index * hidden, (index + 1) * hidden)
  const sum = (...parts: ArrayLike<number>[]) =>
    Float64Array.from({ length: hidden }, (_, c) => parts.reduce((total, part) => total + part[c]!, 0))

  const ids = text.map((id, p) => (id === 0 ? textVocab - textLength + p : id))
  if (version === 'v2') ids.unshift(2)
  let x: Matrix = [
    ...ids.map((id, p) => sum(row('text_embeddings.weight', id), row('text_pos_embeddings.weight', p))),
    ...image.map((id, p) =>
      sum(
        row('image_embeddings.weight', id),
        row('image_row_embeddings.weight', Math.floor(p / grid)),
        row('image_col_embeddings.weight', p % grid),
      ),
    ),
  ]
  const length = textLength + grid * grid
  x = x.slice(0, length)

  const norm = (rows: Matrix, name: string): Matrix =>
    rows.map((values) => {
      const mean = values.reduce((a, b) => a + b, 0) / hidden
      const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / hidden
      const [gamma, beta] = [weight(`${name}.weight`), weight(`${name}.bias`)]
      return values.map((value, c) => ((value - mean) / Math.sqrt(variance + epsilon)) * gamma[c]! + beta[c]!)
    })
  const linear = (rows: Matrix, name: string): Matrix => {
    const [matrix, bias] = [weight(`${name}.weight`), weight(`${name}.bias`)]
    return rows.map((values) =>
      Float64Array.from(bias, (b, out) => {
        let total = b
        for (let c = 0; c < values.length; c++) total += values[c]! * matrix[out * values.length + c]!
        return total
      }),
    )
  }
  const add = (a: Matrix, b: Matrix): Matrix =>
    a.map((values, i) => values.map((value, c) => value + b[i]![c]!))
  const gelu = (value: number) =>
    0.5 * value * (1 + Math.tanh(0.7978845608028654 * value * (1 + 0.044715 * value * value)))

  for (let i = 0; i < layers; i++) {
    const at = `transformer.layers.${i}`
    const attended = attend(
      linear(norm(x, `${at}.input_layernorm`), `${at}.attention.query_key_value`),
      config,
      i,
    )
    const attention = linear(attended, `${at}.attention.dense`)
    const h = add(x, norm(attention, `${at}.before_first_addition_layernorm`))
    const wide = linear(norm(h, `${at}.post_attention_layernorm`), `${at}.mlp.dense_h_to_4h`)
    const mlp = linear(
      wide.map((values) => values.map(gelu)),
      `${at}.mlp.dense_4h_to_h`,
    )
    x = add(h, norm(mlp, `${at}.before_second_addition_layernorm`))
  }
  return linear(norm(norm(x, 'transformer.final_layernorm'), 'to_logits.0'), 'to_logits.1')
}

function attend(qkv: Matrix, config: ReferenceConfig, layer: number): Matrix {
  const hidden = qkv[0]!.length / 3
  const size = hidden / config.heads
  return qkv.map((query, i) => {
    const out = new Float64Array(hidden)
    const keys = qkv.filter((_, j) => sees(config, layer, i, j))
    for (let at = 0; at < hidden; at += size) {
      const scores = keys.map((key) => {
        let score = 0
        for (let d = at; d < at + size; d++) score += query[d]! * key[hidden + d]!
        return score / Math.sqrt(size)
      })
      const largest = Math.max(...scores)
      const shares = scores.map((score) => Math.exp(score - largest))
      const total = shares.reduce((sum, share) => sum + share, 0)
      for (const [k, key] of keys.entries()) {
        for (let d = at; d < at + size; d++) out[d]! += (shares[k]! / total) * key[2 * hidden + d]!
      }
    }
    return out
  })
}

/** The masks, which count the image from `textLength` in either version. */
function sees(
  { layers, textLength, grid, version }: ReferenceConfig,
  layer: number,
  i: number,
  j: number,
): boolean {
  if (j > i) return false
  if (j < textLength || i < textLength) return true
  if ((layer - 1) % 4 === 0) return (i - j) % grid === 0
  if (layer !== layers - 1) return i - j <= grid
  if (i === j) return true
  const reach = Math.floor(kernel / 2)
  const [p, q] = [i - textLength, j - textLength]
  const key = { row: Math.floor(q / grid), column: q % grid }
  for (let r = -reach; r <= reach; r++) {
    for (let c = -reach; c <= reach; c++) {
      const bound = (at: number) =>
        version === 'v2' ? ((at % grid) + grid) % grid : Math.max(Math.min(at, grid - 1), 0)
      if (bound(key.row + r) * grid + bound(key.column + c) === p) return true
    }
  }
  return false
}
