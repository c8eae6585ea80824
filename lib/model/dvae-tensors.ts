import type { DvaeConfig } from './dvae-config.ts'

/** Channels of a residual path's middle are those of its block, divided by this. */
const bottleneck = 4
const pathLength = 4

/**
 * The names and shapes of a dvae's weights, those of DALL-E (`dall_e/encoder.py`, `dall_e/decoder.py`) with `encoder.` and `decoder.`
 * before them. Convolutions are [out, in, height, width].
 */
export function dvaeTensors(sizes: Omit<DvaeConfig, 'model' | 'resolution' | 'epsilon'>) {
  const { hidden, initial, blocksPerGroup, groups, codebookSize } = sizes
  const tensors = new Map<string, readonly number[]>()
  const convolution = (name: string, from: number, to: number, side: number) => {
    tensors.set(`${name}.w`, [to, from, side, side])
    tensors.set(`${name}.b`, [to])
  }
  const block = (name: string, from: number, to: number, pointwise: number) => {
    const inner = to / bottleneck
    if (from !== to) convolution(`${name}.id_path`, from, to, 1)
    for (let i = 0; i < pathLength; i++) {
      const ins = i === 0 ? from : inner
      const outs = i === pathLength - 1 ? to : inner
      convolution(`${name}.res_path.conv_${i + 1}`, ins, outs, i === pointwise ? 1 : 3)
    }
  }
  /** Groups of these widths, from the input's to the output's; returns the last. */
  const half = (name: string, input: number, widths: readonly number[], pointwise: number) => {
    let from = input
    widths.forEach((width, group) => {
      for (let i = 0; i < blocksPerGroup; i++) {
        block(`${name}.blocks.group_${group + 1}.block_${i + 1}`, from, width, pointwise)
        from = width
      }
    })
    return from
  }
  const widths = Array.from({ length: groups }, (_, group) => hidden * 2 ** group)
  convolution('encoder.blocks.input', 3, hidden, 7)
  const deepest = half('encoder', hidden, widths, pathLength - 1)
  convolution('encoder.blocks.output.conv', deepest, codebookSize, 1)
  convolution('decoder.blocks.input', codebookSize, initial, 1)
  const last = half('decoder', initial, widths.toReversed(), 0)
  convolution('decoder.blocks.output.conv', last, 6, 1)
  return tensors
}
