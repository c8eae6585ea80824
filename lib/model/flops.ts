// Floating-point operations of the models' products, a multiply-add counting as two. Norms, softmaxes, activations and embeddings
// are left out: below one percent of it.
import type { DvaeConfig } from './dvae-config.ts'
import type { MatcherConfig } from './matcher-config.ts'
import type { VqganConfig } from './image-tokenizer-config.ts'

/**
 * Decoding one picture with a VQGAN: every convolution of taming-transformers' decoder, a multiply-add for each of side^2 x in x out a pixel
 * of its output, and the two products of each attention block. 312 GFLOP for vqgan-f8-8192.
 */
export function vqganDecodeFlops(config: VqganConfig): number {
  const { resolution, channels, multipliers, residualBlocks, attentionResolutions, latentChannels } = config
  const last = multipliers.length - 1
  const widest = channels * multipliers[last]!
  const stack = new Stack(resolution >> last)
  stack.convolution(config.codebookDim, latentChannels, 1)
  stack.convolution(latentChannels, widest, 3)
  stack.middle(widest)
  let ins = widest
  for (let level = last; level >= 0; level--) {
    const outs = channels * multipliers[level]!
    for (let block = 0; block <= residualBlocks; block++) {
      stack.residual(ins, outs)
      if (attentionResolutions.includes(stack.side)) stack.attention(outs)
      ins = outs
    }
    if (level > 0) {
      stack.side *= 2
      stack.convolution(outs, outs, 3)
    }
  }
  stack.convolution(ins, config.wavelet === true ? 12 : 3, 3)
  return stack.flops
}

/** Encoding one picture with a VQGAN, counted as {@link vqganDecodeFlops}; the search in the codebook is left out. */
export function vqganEncodeFlops(config: VqganConfig): number {
  const { resolution, channels, multipliers, residualBlocks, attentionResolutions, latentChannels } = config
  const stack = new Stack(resolution)
  stack.convolution(3, channels, 3)
  let ins = channels
  for (const [level, multiplier] of multipliers.entries()) {
    const outs = channels * multiplier
    for (let block = 0; block < residualBlocks; block++) {
      stack.residual(ins, outs)
      if (attentionResolutions.includes(stack.side)) stack.attention(outs)
      ins = outs
    }
    if (level < multipliers.length - 1) {
      stack.side /= 2
      stack.convolution(outs, outs, 3)
    }
  }
  stack.middle(ins)
  stack.convolution(ins, latentChannels, 3)
  stack.convolution(latentChannels, config.codebookDim, 1)
  return stack.flops
}

/** Encoding one picture with a dVAE, counted as {@link vqganDecodeFlops}. */
export function dvaeEncodeFlops(config: DvaeConfig): number {
  const { resolution = 256, hidden, groups, blocksPerGroup, codebookSize } = config
  const stack = new Stack(resolution)
  stack.convolution(3, hidden, 7)
  let ins = hidden
  for (let group = 0; group < groups; group++) {
    if (group > 0) stack.side /= 2
    const outs = hidden * 2 ** group
    for (let block = 0; block < blocksPerGroup; block++) {
      stack.bottleneck(ins, outs, [3, 3, 3, 1])
      ins = outs
    }
  }
  stack.convolution(ins, codebookSize, 1)
  return stack.flops
}

/** Decoding one picture with a dVAE from probabilities of codes, as in training; from codes, the first layer is a lookup. */
export function dvaeDecodeFlops(config: DvaeConfig): number {
  const { resolution = 256, hidden, initial, groups, blocksPerGroup, codebookSize } = config
  const stack = new Stack(resolution / 2 ** (groups - 1))
  stack.convolution(codebookSize, initial, 1)
  let ins = initial
  for (let group = 0; group < groups; group++) {
    if (group > 0) stack.side *= 2
    const outs = hidden * 2 ** (groups - 1 - group)
    for (let block = 0; block < blocksPerGroup; block++) {
      stack.bottleneck(ins, outs, [1, 3, 3, 3])
      ins = outs
    }
  }
  stack.convolution(ins, 6, 1)
  return stack.flops
}

/** Embedding one pair with a matcher: the linear layers of both towers, for each token of their streams. */
export function matcherFlops({ layers, hidden, textLength, grid, dim }: Required<MatcherConfig>): number {
  const tokens = textLength + 2 + (grid ** 2 + 2) // each with IMG and one that stands for the other half
  return 2 * (12 * layers * hidden ** 2 * tokens + 2 * hidden * dim)
}

/** The features of one picture for LPIPS: VGG16 without its classifier. */
export function lpipsFlops(resolution: number): number {
  const stack = new Stack(resolution)
  let ins = 3
  for (const [block, [outs, count]] of [
    [64, 2],
    [128, 2],
    [256, 3],
    [512, 3],
    [512, 3],
  ].entries()) {
    if (block > 0) stack.side = Math.floor(stack.side / 2)
    for (let i = 0; i < count!; i++) {
      stack.convolution(ins, outs!, 3)
      ins = outs!
    }
  }
  return stack.flops
}

/** The logits of a PatchGAN discriminator for one picture. */
export function discriminatorFlops(
  resolution: number,
  { channels, layers }: { channels: number; layers: number },
): number {
  const stack = new Stack(Math.floor(resolution / 2))
  stack.convolution(3, channels, 4)
  let ins = channels
  for (let layer = 1; layer <= layers; layer++) {
    stack.side = layer < layers ? Math.floor(stack.side / 2) : stack.side - 1
    const outs = channels * Math.min(2 ** layer, 8)
    stack.convolution(ins, outs, 4)
    ins = outs
  }
  stack.side -= 1
  stack.convolution(ins, 1, 4)
  return stack.flops
}

/** Layers that follow each other on square pictures. */
class Stack {
  /** Of the pictures that a layer makes. */
  side: number
  flops = 0

  constructor(side: number) {
    this.side = side
  }

  convolution(ins: number, outs: number, kernel: number): void {
    this.flops += 2 * ins * outs * kernel ** 2 * this.side ** 2
  }

  residual(ins: number, outs: number): void {
    this.convolution(ins, outs, 3)
    this.convolution(outs, outs, 3)
    if (ins !== outs) this.convolution(ins, outs, 1)
  }

  /** A residual path through a quarter of the channels. */
  bottleneck(ins: number, outs: number, kernels: readonly number[]): void {
    const inner = outs / 4
    for (const [i, kernel] of kernels.entries()) {
      this.convolution(i === 0 ? ins : inner, i === kernels.length - 1 ? outs : inner, kernel)
    }
    if (ins !== outs) this.convolution(ins, outs, 1)
  }

  attention(width: number): void {
    for (let i = 0; i < 4; i++) this.convolution(width, width, 1)
    this.flops += 4 * this.side ** 4 * width
  }

  middle(width: number): void {
    this.residual(width, width)
    this.attention(width)
    this.residual(width, width)
  }
}
