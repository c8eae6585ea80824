// Floating-point operations of the models' products, a multiply-add counting as two. Norms, softmaxes, activations and embeddings
// are left out: below one percent of it.
import type { ImageTokenizerConfig } from './image-tokenizer-config.ts'

/**
 * Decoding one picture with a VQGAN: every convolution of taming-transformers' decoder, a multiply-add for each of side^2 x in x out a pixel
 * of its output, and the two products of each attention block. 312 GFLOP for vqgan-f8-8192.
 */
export function vqganDecodeFlops(config: ImageTokenizerConfig): number {
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
  stack.convolution(ins, 3, 3)
  return stack.flops
}

/** Encoding one picture with a VQGAN, counted as {@link vqganDecodeFlops}; the search in the codebook is left out. */
export function vqganEncodeFlops(config: ImageTokenizerConfig): number {
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
