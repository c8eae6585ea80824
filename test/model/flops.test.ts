import test from 'ava'
import { preset } from '../../lib/index.ts'
import {
  discriminatorFlops,
  dvaeDecodeFlops,
  dvaeEncodeFlops,
  lpipsFlops,
  vqganDecodeFlops,
  vqganEncodeFlops,
} from '../../lib/model/flops.ts'

test('the decoder of vqgan-f8-8192 takes 312 GFLOP', (t) => {
  t.is(Math.round(vqganDecodeFlops(preset('vqgan-f8-8192')) / 1e9), 312)
})

test('an encoder counted by hand', (t) => {
  const config = {
    model: 'vqgan',
    quantizer: 'nearest',
    resolution: 2,
    channels: 1,
    multipliers: [1],
    residualBlocks: 1,
    attentionResolutions: [],
    latentChannels: 1,
    codebookSize: 2,
    codebookDim: 1,
  } as const
  // first convolution, residual block, the middle (two blocks; four products 1 x 1 and attention of 4 pixels), last convolution, 1 x 1
  t.is(vqganEncodeFlops(config), 216 + 144 + (2 * 144 + 32 + 64) + 72 + 8)
  // another level, of one pixel: its stride-2 convolution, and all that follows
  t.is(vqganEncodeFlops({ ...config, multipliers: [1, 1] }), 216 + 144 + 18 + 36 + (2 * 36 + 8 + 4) + 18 + 2)
  const attention = vqganEncodeFlops({ ...config, attentionResolutions: [2] }) - vqganEncodeFlops(config)
  t.is(attention, 32 + 64)
})

test('VGG16 has 15,346,630,656 multiply-adds in the convolutions of a picture of 224 x 224', (t) => {
  t.is(lpipsFlops(224), 2 * 15_346_630_656)
})

test('a discriminator and a dvae counted by hand', (t) => {
  // 32 to 16, 8, 7 and 6: the fixture's
  const layers = [3 * 8 * 16 ** 2, 8 * 16 * 8 ** 2, 16 * 32 * 7 ** 2, 32 * 6 ** 2]
  t.is(discriminatorFlops(32, { channels: 8, layers: 2 }), 2 * 16 * layers.reduce((a, b) => a + b))
  const config = {
    model: 'dvae',
    resolution: 2,
    hidden: 4,
    initial: 3,
    blocksPerGroup: 1,
    groups: 2,
    codebookSize: 5,
    epsilon: 0.1,
  } as const
  // 7 x 7, a block of 4 channels through 1, at a pixel one of 8 through 2 with its shortcut, the logits
  const encode = 4 * (3 * 4 * 49 + 4 * 9 + 9 + 9 + 4) + (4 * 2 * 9 + 36 + 36 + 2 * 8 + 4 * 8) + 8 * 5
  t.is(dvaeEncodeFlops(config), 2 * encode)
  const decode = 5 * 3 + (3 * 2 + 36 + 36 + 2 * 8 * 9 + 3 * 8) + 4 * (8 + 9 + 9 + 4 * 9 + 8 * 4 + 4 * 6)
  t.is(dvaeDecodeFlops(config), 2 * decode)
})
