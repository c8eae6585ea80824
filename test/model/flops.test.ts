import test from 'ava'
import { preset } from '../../lib/index.ts'
import { vqganDecodeFlops, vqganEncodeFlops } from '../../lib/model/flops.ts'

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
