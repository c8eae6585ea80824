import { join } from 'node:path'

import { SafetensorsFile } from '../../lib/checkpoint/safetensors.ts'
import { ImageTokenizer } from '../../lib/model/image-tokenizer.ts'
import { PRESETS } from '../../lib/model/presets.ts'
import { expectError, Random, relativeError, timed } from '../data.ts'
import { vqganDecodeFlops } from '../../lib/model/flops.ts'
import { onnxRuntime, openSession, peersMissing } from '../peers/onnxruntime.ts'
import { vqganDecoderOnnx } from '../peers/vqgan-onnx.ts'
import type { Case, Peer, Trial } from '../trial.ts'

const config = PRESETS['vqgan-f8-8192'] as Required<(typeof PRESETS)['vqgan-f8-8192']>
const { resolution, codebookSize } = config

const trial: Trial = {
  description: `Decoding the tokens of one ${resolution} x ${resolution} picture with vqgan-f8-8192, in float32 and bfloat16, against ONNX Runtime in float32 with the same weights and threads.`,
  async setup({ folder, threads }) {
    const whole = await ImageTokenizer.create(config, { seed: 1 })
    await whole.save(folder)
    const half = await ImageTokenizer.load(folder, { precision: 'bfloat16' })
    const indices = new Random(6).integers(whole.grid ** 2, codebookSize)
    const peer = await openPeer(join(folder, 'weights.safetensors'), indices, threads)

    const makeCase = (
      tokenizer: ImageTokenizer,
      speedup: number,
      bound: number,
      limit: Case['limit'],
    ): Case => ({
      name: tokenizer.precision,
      title: `decode ${resolution} x ${resolution}, vqgan-f8-8192, ${tokenizer.precision}`,
      work: { flops: vqganDecodeFlops(config) },
      limit,
      samples: 12,
      peer: peer && { name: peer.name, run: peer.run },
      peerMissing: peer ? undefined : peersMissing,
      target: { kind: 'speedup', atLeast: speedup },
      async check() {
        // without the peer, our two precisions, which share no products, check each other
        const expected = peer ? await peer.decode() : await whole.decode(indices)
        const error = relativeError(await tokenizer.decode(indices), expected)
        expectError(`the ${tokenizer.precision} picture`, error, bound)
      },
      run: async () => [await timed(() => tokenizer.decode(indices))],
    })
    return {
      async dispose() {
        await peer?.release()
        await whole.dispose()
        await half.dispose()
      },
      cases: [
        makeCase(whole, 1, 1e-4, 'float32Flops'),
        // 40 layers that each round inputs and weights to 2^-9
        makeCase(half, 1.6, 5e-2, 'bfloat16Flops'),
      ],
    }
  },
}
export default trial

async function openPeer(weights: string, indices: Int32Array, threads: number) {
  const found = onnxRuntime()
  if (!found) return undefined
  const { runtime, version } = found
  await using file = await SafetensorsFile.open(weights)
  const session = await openSession(runtime, await vqganDecoderOnnx(config, file), threads)
  const inputs = {
    indices: new runtime.Tensor('int64', BigInt64Array.from(indices, BigInt), [indices.length]),
  }
  const decode = async () => (await session.run(inputs))['image']!.data
  const run: Peer['run'] = async () => [await timed(decode)]
  return { name: `onnxruntime-node ${version}`, run, decode, release: () => session.release() }
}
