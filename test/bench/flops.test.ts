import test from 'ava'

import {
  attends,
  attentionPairs,
  drawTokenBytes,
  generatorStepFlops,
  matmulFlops,
  patternOf,
} from '../../bench/flops.ts'
import { DIRECTIONS, Generator, kernels, PATTERNS, preset } from '../../lib/index.ts'

test('the mask is that of the kernels', (t) => {
  const sizes = { textLength: 3, grid: 5, kernel: 3 }
  const length = 3 + 1 + 25
  for (const direction of DIRECTIONS) {
    for (const pattern of PATTERNS) {
      let pairs = 0
      for (let query = 0; query < length; query++) {
        for (let key = 0; key < length; key++) {
          const expected = kernels.attends(pattern, direction, query, key, sizes)
          const actual = attends(pattern, direction, query, key, sizes)
          t.is(actual, expected, `${pattern} ${direction} ${query} ${key}`)
          pairs += Number(expected)
        }
      }
      t.is(attentionPairs(pattern, direction, sizes), pairs)
    }
  }
})

test('layers have the patterns of the paper', (t) => {
  const config = preset('ernie-vilg-10b')
  const patterns = Array.from({ length: 48 }, (_, i) => patternOf(i + 1, config))
  const count = (pattern: string) => patterns.filter((one) => one === pattern).length
  t.deepEqual([count('row'), count('column'), count('conv')], [35, 12, 1])
  t.deepEqual(patterns.slice(0, 3), ['row', 'column', 'row'])
  t.is(patterns[47], 'conv')
  t.is(patternOf(1, { ...config, attention: 'full' }), 'full')
})

test('a product is a multiply-add for each of m n k', (t) => {
  t.is(matmulFlops(2, 3, 5), 60)
})

test('bytes of a drawn token are those of the weights that it reads', async (t) => {
  const config = {
    layers: 2,
    hidden: 32,
    heads: 2,
    textVocab: 11,
    imageVocab: 19,
    textLength: 4,
    grid: 2,
    kernel: 3,
  }
  await using generator = await Generator.create(config)
  const { layers, hidden, textVocab, imageVocab, textLength, grid } = config
  // all but what the text direction alone reads and what is looked up by row
  const tables = hidden * (textVocab + imageVocab + 1 + textLength + 2 * grid + 2)
  const read = generator.parameterCount - tables - (hidden + 1) * textVocab
  const matrices = 12 * hidden ** 2 * layers + hidden * imageVocab
  t.is(drawTokenBytes(config), 2 * matrices + 4 * (read - matrices))
})

test('a training step is three times the products of its weights, and attention', (t) => {
  const config = {
    layers: 1,
    hidden: 8,
    heads: 1,
    textVocab: 5,
    imageVocab: 7,
    textLength: 2,
    grid: 1,
    kernel: 1,
  }
  // tokens 2 + 1 + 1; pairs: text sees text (4), IMG sees 3, the image token sees 4
  const products = 3 * 2 * (12 * 64 * 4 + 8 * 7)
  t.is(generatorStepFlops(config), products + 12 * 8 * 11)
  t.throws(() => generatorStepFlops(config, 'image-to-text'), { instanceOf: RangeError })
})
