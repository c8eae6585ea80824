import type { VqganConfig } from './image-tokenizer-config.ts'

type Sizes = Omit<VqganConfig, 'model' | 'resolution' | 'attentionResolutions'> & {
  /** Levels, from 0 at full size, that have attention. */
  attentionLevels: ReadonlySet<number>
}

/**
 * The names and shapes of a vqgan's weights, those of taming-transformers (`modules/diffusionmodules/model.py`). Convolutions are
 * [out, in, height, width].
 */
export function imageTokenizerTensors(sizes: Sizes): Map<string, readonly number[]> {
  const { quantizer, channels, multipliers, residualBlocks, latentChannels, codebookSize, codebookDim } =
    sizes
  const tensors = new Map<string, readonly number[]>()
  const convolution = (name: string, from: number, to: number, side: number) => {
    tensors.set(`${name}.weight`, [to, from, side, side])
    tensors.set(`${name}.bias`, [to])
  }
  const norm = (name: string, width: number) => {
    tensors.set(`${name}.weight`, [width])
    tensors.set(`${name}.bias`, [width])
  }
  const block = (name: string, from: number, to: number) => {
    norm(`${name}.norm1`, from)
    convolution(`${name}.conv1`, from, to, 3)
    norm(`${name}.norm2`, to)
    convolution(`${name}.conv2`, to, to, 3)
    if (from !== to) convolution(`${name}.nin_shortcut`, from, to, 1)
  }
  const attention = (name: string, width: number) => {
    norm(`${name}.norm`, width)
    for (const part of ['q', 'k', 'v', 'proj_out']) convolution(`${name}.${part}`, width, width, 1)
  }
  const level = (name: string, from: number, to: number, blocks: number, attends: boolean) => {
    for (let i = 0; i < blocks; i++) {
      block(`${name}.block.${i}`, i === 0 ? from : to, to)
      if (attends) attention(`${name}.attn.${i}`, to)
    }
  }
  const middle = (name: string, width: number) => {
    block(`${name}.mid.block_1`, width, width)
    attention(`${name}.mid.attn_1`, width)
    block(`${name}.mid.block_2`, width, width)
  }
  const widths = multipliers.map((multiplier) => channels * multiplier)
  const last = widths.length - 1
  const deepest = widths[last]!

  convolution('encoder.conv_in', 3, channels, 3)
  widths.forEach((width, i) => {
    const name = `encoder.down.${i}`
    level(name, widths[i - 1] ?? channels, width, residualBlocks, sizes.attentionLevels.has(i))
    if (i < last) convolution(`${name}.downsample.conv`, width, width, 3)
  })
  middle('encoder', deepest)
  norm('encoder.norm_out', deepest)
  convolution('encoder.conv_out', deepest, latentChannels, 3)

  convolution('quant_conv', latentChannels, codebookDim, 1)
  if (quantizer === 'gumbel') {
    convolution('quantize.proj', latentChannels, codebookSize, 1)
    tensors.set('quantize.embed.weight', [codebookSize, codebookDim])
  } else {
    tensors.set('quantize.embedding.weight', [codebookSize, codebookDim])
  }
  convolution('post_quant_conv', codebookDim, latentChannels, 1)

  convolution('decoder.conv_in', latentChannels, deepest, 3)
  middle('decoder', deepest)
  for (let i = last; i >= 0; i--) {
    const name = `decoder.up.${i}`
    level(name, widths[i + 1] ?? deepest, widths[i]!, residualBlocks + 1, sizes.attentionLevels.has(i))
    if (i > 0) convolution(`${name}.upsample.conv`, widths[i]!, widths[i]!, 3)
  }
  norm('decoder.norm_out', widths[0]!)
  convolution('decoder.conv_out', widths[0]!, sizes.wavelet === true ? 12 : 3, 3)
  return tensors
}
