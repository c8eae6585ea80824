// Floating-point operations of the mathematics, a multiply-add counting as two. What is left out (norms, softmaxes, activations,
// embeddings) is below one percent of it.

import type { Direction, Pattern, StreamSizes } from '../lib/kernels.ts'
import type { GeneratorConfig } from '../lib/model/generator-config.ts'

/** m x k by k x n: a multiply-add for each of m n k. */
export function matmulFlops(m: number, n: number, k: number): number {
  return 2 * m * n * k
}

/** Whether the token at `query` sees the one at `key`: kernels.attends where all text is valid, without a native call a pair. */
export function attends(
  pattern: Pattern,
  direction: Direction,
  query: number,
  key: number,
  sizes: StreamSizes,
): boolean {
  const { textLength, grid, kernel } = sizes
  const toImage = direction === 'text-to-image'
  const start = toImage ? textLength : 0 // IMG; the image follows
  const isText = (token: number) => (toImage ? token < start : token > grid ** 2)
  if (toImage) {
    if (isText(key)) return true
    if (query < key) return false
  } else {
    if (isText(query)) return key <= query
    if (isText(key)) return false
    if (query === start) return true
  }
  if (key === start) return true
  const [p, q] = [query - start - 1, key - start - 1]
  const down = Math.floor(p / grid) - Math.floor(q / grid)
  const right = (p % grid) - (q % grid)
  switch (pattern) {
    case 'row':
      return toImage ? p - q <= grid : down === 0
    case 'column':
      return right === 0
    case 'conv':
      return Math.abs(down) <= kernel >> 1 && Math.abs(right) <= kernel >> 1
    case 'full':
      return true
  }
}

/** How many pairs of query and key see each other. */
export function attentionPairs(pattern: Pattern, direction: Direction, sizes: StreamSizes): number {
  const length = sizes.textLength + 1 + sizes.grid ** 2
  let pairs = 0
  for (let query = 0; query < length; query++) {
    for (let key = 0; key < length; key++) pairs += Number(attends(pattern, direction, query, key, sizes))
  }
  return pairs
}

/**
 * Attention over `channels` = heads x head size: a pair costs a product of queries and keys and one of scores and values, each a
 * multiply-add a channel. Backward there are four: by the scores, the values, the queries and the keys; that flash attention computes the scores
 * again is its own affair and not counted.
 */
export function attentionFlops(pairs: number, channels: number): { forward: number; backward: number } {
  return { forward: 4 * pairs * channels, backward: 8 * pairs * channels }
}

/** The pattern of layer 1 .. L (ERNIE-ViLG 3.1.2): the last convolutional, column where i mod 4 = 2, else row. */
export function patternOf(layer: number, { layers, attention }: GeneratorConfig): Pattern {
  if (attention === 'full') return 'full'
  return layer === layers ? 'conv' : layer % 4 === 2 ? 'column' : 'row'
}

/**
 * Forward and backward of one pair, text to image. A layer has 12 H^2 weights in matrices (3 H^2 for queries, keys and values, H^2 after them,
 * 4 H^2 twice for the perceptron), each a multiply-add a token; the head's H x Vz count for the n rows that predict an image token. A
 * backward pass is two such products: by the input and by the weights. The first layer's input has a gradient, too (the embeddings').
 */
export function generatorStepFlops(config: GeneratorConfig, direction: Direction = 'text-to-image'): number {
  if (direction !== 'text-to-image') throw new RangeError('Expected text-to-image, the one that is counted')
  const { layers, hidden, grid, textLength, imageVocab } = config
  const tokens = textLength + 1 + grid ** 2
  let flops = 3 * (2 * 12 * hidden ** 2 * tokens * layers + 2 * hidden * imageVocab * grid ** 2)
  for (let layer = 1; layer <= layers; layer++) {
    const pairs = attentionPairs(patternOf(layer, config), direction, config)
    const { forward, backward } = attentionFlops(pairs, hidden)
    flops += forward + backward
  }
  return flops
}

/**
 * Bytes of weights that drawing one image token reads, with matrices in bfloat16 and vectors in float32: 12 H^2 of a layer's matrices and
 * H x Vz of the head's; 13 H of a layer's vectors (two norms: 4 H, biases: 3 H, H, 4 H, H), the last norm's 2 H and the head's Vz biases.
 */
export function drawTokenBytes({ layers, hidden, imageVocab }: GeneratorConfig): number {
  const matrices = 12 * hidden ** 2 * layers + hidden * imageVocab
  const vectors = 13 * hidden * layers + 2 * hidden + imageVocab
  return 2 * matrices + 4 * vectors
}
