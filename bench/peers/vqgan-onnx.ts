import type { SafetensorsFile } from '../../lib/checkpoint/safetensors.ts'
import type { VqganConfig } from '../../lib/model/image-tokenizer-config.ts'
import { Float, OnnxGraph } from './onnx-graph.ts'

const groups = 32
const epsilon = 1e-6

/**
 * The decoder of taming-transformers' VQGAN as an ONNX file, from the weights of one of ours: `indices` (int64, n) to `image`
 * (1 x 3 x S x S). Written for ONNX Runtime to be fast on: shapes are fixed, so it can plan everything; swish is Sigmoid and Mul, which it fuses.
 */
export async function vqganDecoderOnnx(
  config: Required<VqganConfig>,
  weights: SafetensorsFile,
): Promise<Uint8Array> {
  const { resolution, channels, multipliers, residualBlocks, attentionResolutions, latentChannels } = config
  const { codebookSize, codebookDim } = config
  const graph = new OnnxGraph()
  const last = multipliers.length - 1
  const grid = resolution >> last
  const weight = (name: string) => weights.readFloat32(name)
  let side = grid

  const convolution = async (x: string, name: string, ins: number, outs: number, kernel: number) =>
    graph.node(
      'Conv',
      [
        x,
        graph.floats(await weight(`${name}.weight`), [outs, ins, kernel, kernel]),
        graph.floats(await weight(`${name}.bias`), [outs]),
      ],
      { kernel_shape: [kernel, kernel], pads: Array<number>(4).fill(kernel >> 1) },
    )

  // GroupNormalization of opset 21 is 3 % slower in all (3.10 s against 3.00 s on one core): ONNX Runtime has no kernel of its own for it
  const norm = async (x: string, name: string, width: number) => {
    const gamma = await weight(`${name}.weight`)
    const beta = await weight(`${name}.bias`)
    const grouped = graph.node('Reshape', [x, graph.integers([1, groups, (width / groups) * side * side])])
    const ones = graph.floats(new Float32Array(groups).fill(1), [groups])
    const zeros = graph.floats(new Float32Array(groups), [groups])
    const normed = graph.node('InstanceNormalization', [grouped, ones, zeros], {
      epsilon: new Float(epsilon),
    })
    const shaped = graph.node('Reshape', [normed, graph.integers([1, width, side, side])])
    const scaled = graph.node('Mul', [shaped, graph.floats(gamma, [1, width, 1, 1])])
    return graph.node('Add', [scaled, graph.floats(beta, [1, width, 1, 1])])
  }

  const swish = (x: string) => graph.node('Mul', [x, graph.node('Sigmoid', [x])])

  const residual = async (x: string, name: string, ins: number, outs: number) => {
    let h = swish(await norm(x, `${name}.norm1`, ins))
    h = await convolution(h, `${name}.conv1`, ins, outs, 3)
    h = swish(await norm(h, `${name}.norm2`, outs))
    h = await convolution(h, `${name}.conv2`, outs, outs, 3)
    const skipped = ins === outs ? x : await convolution(x, `${name}.nin_shortcut`, ins, outs, 1)
    return graph.node('Add', [skipped, h])
  }

  const attention = async (x: string, name: string, width: number) => {
    const h = await norm(x, `${name}.norm`, width)
    // width x pixels, each
    const flat = async (part: string) =>
      graph.node('Reshape', [
        await convolution(h, `${name}.${part}`, width, width, 1),
        graph.integers([1, width, side * side]),
      ])
    const [q, k, v] = [await flat('q'), await flat('k'), await flat('v')]
    const scale = graph.floats(Float32Array.of(width ** -0.5), [1])
    const queries = graph.node('Mul', [graph.node('Transpose', [q], { perm: [0, 2, 1] }), scale])
    const scores = graph.node('Softmax', [graph.node('MatMul', [queries, k])], { axis: 2 })
    const seen = graph.node('MatMul', [v, graph.node('Transpose', [scores], { perm: [0, 2, 1] })])
    const picture = graph.node('Reshape', [seen, graph.integers([1, width, side, side])])
    return graph.node('Add', [x, await convolution(picture, `${name}.proj_out`, width, width, 1)])
  }

  const indices = graph.input('indices', 'int64', [grid * grid])
  const codebook = graph.floats(await weight('quantize.embedding.weight'), [codebookSize, codebookDim])
  const codes = graph.node('Transpose', [graph.node('Gather', [codebook, indices])], { perm: [1, 0] })
  let x = graph.node('Reshape', [codes, graph.integers([1, codebookDim, grid, grid])])
  x = await convolution(x, 'post_quant_conv', codebookDim, latentChannels, 1)
  let width = channels * multipliers[last]!
  x = await convolution(x, 'decoder.conv_in', latentChannels, width, 3)
  x = await residual(x, 'decoder.mid.block_1', width, width)
  x = await attention(x, 'decoder.mid.attn_1', width)
  x = await residual(x, 'decoder.mid.block_2', width, width)
  for (let level = last; level >= 0; level--) {
    const outs = channels * multipliers[level]!
    for (let block = 0; block <= residualBlocks; block++) {
      x = await residual(x, `decoder.up.${level}.block.${block}`, width, outs)
      width = outs
      if (attentionResolutions.includes(side)) {
        x = await attention(x, `decoder.up.${level}.attn.${block}`, width)
      }
    }
    if (level > 0) {
      const scales = graph.floats(Float32Array.of(1, 1, 2, 2), [4])
      x = graph.node('Resize', [x, '', scales], {
        mode: 'nearest',
        nearest_mode: 'floor',
        coordinate_transformation_mode: 'asymmetric',
      })
      side *= 2
      x = await convolution(x, `decoder.up.${level}.upsample.conv`, width, width, 3)
    }
  }
  x = swish(await norm(x, 'decoder.norm_out', width))
  x = await convolution(x, 'decoder.conv_out', width, 3, 3)
  graph.output('image', x, 'float32', [1, 3, resolution, resolution])
  return graph.encode(21)
}
