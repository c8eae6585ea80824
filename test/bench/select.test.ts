import test from 'ava'

import { filterTrials, findTrials } from '../../bench/select.ts'
import type { Trial } from '../../bench/trial.ts'

const names = ['draw-image', 'matmul-bfloat16', 'matmul-float32', 'vqgan-decode']

test('terms select by part of the name', (t) => {
  t.deepEqual(filterTrials(names, []), names)
  t.deepEqual(filterTrials(names, ['matmul']), ['matmul-bfloat16', 'matmul-float32'])
  t.deepEqual(filterTrials(names, ['VQGAN', 'draw']), ['draw-image', 'vqgan-decode'])
  t.deepEqual(filterTrials(names, ['float', 'float32']), ['matmul-bfloat16', 'matmul-float32'])
})

test('a term that selects nothing is an error that says what there is', (t) => {
  t.throws(() => filterTrials(names, ['matmul', 'conv']), { message: /draw-image, .*received "conv"/ })
})

test('every file of bench/trials is a trial', async (t) => {
  const found = findTrials('bench/trials')
  t.deepEqual(found, [
    'codebook-lookup',
    'data-loader',
    'draw-image',
    'frechet-distance',
    'matmul-bfloat16',
    'matmul-float32',
    'sparse-attention',
    'train-step',
    'vqgan-decode',
  ])
  for (const name of found) {
    const { default: trial } = (await import(`../../bench/trials/${name}.ts`)) as { default: Trial }
    t.is(typeof trial.setup, 'function', name)
    t.regex(trial.description, /^[A-Z].*\.$/, name)
  }
})
