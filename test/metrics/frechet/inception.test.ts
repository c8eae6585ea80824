import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { RgbImage } from '../../../lib/data/image.ts'
import { inceptionSide, writeInceptionInput } from '../../../lib/metrics/frechet/inception-input.ts'
import {
  type FeatureExtractor,
  folderImages,
  imageStatistics,
  loadInception,
  type OnnxRuntime,
  type OnnxTensor,
} from '../../../lib/metrics/index.ts'
import { writePng } from '../../../lib/index.ts'
import { temporaryFolder } from '../../model/helpers.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }
const format = { code: 'ERR_VILG_CHECKPOINT_FORMAT' }

/** Byte (7 x + 13 y + 29 channel) mod 256. */
function pattern(width: number, height: number): RgbImage {
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
    const place = Math.floor(i / 3)
    return ((place % width) * 7 + Math.floor(place / width) * 13 + (i % 3) * 29) % 256
  })
  return { pixels, width, height }
}

class Tensor implements OnnxTensor {
  readonly data: unknown
  readonly dims: readonly number[]
  constructor(_: string, data: unknown, dims: readonly number[]) {
    this.data = data
    this.dims = dims
  }
}

/** A runtime whose graph gives each picture the means of its channels, or what `run` says. */
function fakeRuntime(
  run: (input: OnnxTensor) => OnnxTensor | undefined = (input) => {
    const plane = inceptionSide ** 2
    const [count] = input.dims as [number]
    const values = input.data as Float32Array
    const means = Float32Array.from({ length: 3 * count }, (_, i) => {
      return values.subarray(i * plane, (i + 1) * plane).reduce((sum, value) => sum + value, 0) / plane
    })
    return new Tensor('', means, [count, 3, 1, 1])
  },
  inputNames: string[] = ['pictures'],
): { runtime: OnnxRuntime; log: unknown[] } {
  const log: unknown[] = []
  const create = async (path: string, options: unknown) => {
    log.push({ path, options })
    return {
      inputNames,
      outputNames: ['features', 'logits'],
      run: async (feeds: Record<string, OnnxTensor>) => {
        const output = run(feeds[inputNames[0]!]!)
        return (output ? { features: output } : {}) as Record<string, OnnxTensor>
      },
      release: async () => void log.push('released'),
    }
  }
  return { runtime: { InferenceSession: { create }, Tensor } as never, log }
}

async function graphFile(t: ExecutionContext): Promise<string> {
  const path = join(await temporaryFolder(t), 'inception.onnx')
  await writeFile(path, 'a graph')
  return path
}

// PyTorch 2's 2 * F.interpolate(x, size=(299, 299), mode='bilinear', align_corners=False) - 1 of the pattern above over 255, at (channel, row, column)
const places = [
  [0, 0, 0],
  [0, 1, 2],
  [1, 150, 77],
  [2, 298, 298],
  [0, 298, 0],
  [1, 33, 250],
  [2, 149, 149],
] as const
const interpolated: [width: number, height: number, values: number[]][] = [
  [2, 3, [-1, -1, -0.6685553, -0.2862745, -0.7960784, -0.7176471, -0.4156863]],
  [640, 37, [-0.968693, -0.7336612, 0.1161777, 0.0275156, 0.6940521, 0.8996242, 0.7607826]],
  [299, 299, [-1, -0.7882353, 0.6784314, 0.0196079, -0.7333333, 0.254902, 0.7411765]],
  [1, 1, [-1, -1, -0.772549, -0.5450981, -1, -0.772549, -0.5450981]],
]

test("pictures are resized and scaled as PyTorch's interpolate does", (t) => {
  for (const [width, height, values] of interpolated) {
    const input = new Float32Array(3 * inceptionSide ** 2)
    writeInceptionInput(pattern(width, height), input)
    places.forEach(([channel, row, column], i) => {
      const found = input[(channel * inceptionSide + row) * inceptionSide + column]!
      // float32 on either side, and at places up to 640 with weights of 2^-24 * 640
      t.true(Math.abs(found - values[i]!) < 1e-4, `${width} x ${height}: ${found}, ${values[i]}`)
    })
  }
})

test('a graph is opened, asked for the length of its vectors, run in batches, and released', async (t) => {
  const { runtime, log } = fakeRuntime()
  const path = await graphFile(t)
  {
    await using inception = await loadInception(path, { runtime, threads: 3 })
    t.is(inception.dimensions, 3)
    t.like(log[0], { path, options: { intraOpNumThreads: 3 } })
    const white = { pixels: new Uint8Array(12).fill(255), width: 2, height: 2 }
    const red = { pixels: Uint8Array.from([255, 0, 0]), width: 1, height: 1 }
    t.deepEqual([...(await inception.extract([white, red], {}))], [1, 1, 1, 1, -1, -1])
    const signal = AbortSignal.abort(new Error('enough'))
    await t.throwsAsync(async () => inception.extract([red], { signal }), { message: 'enough' })
    await inception.dispose()
    await t.throwsAsync(async () => inception.extract([red], {}), { code: 'ERR_VILG_DISPOSED' })
  }
  t.deepEqual(log.slice(1), ['released'])
})

test('what is no graph from pictures to vectors is refused, and released', async (t) => {
  const path = await graphFile(t)
  const flat = (dims: number[], data: unknown = new Float32Array(8)) =>
    fakeRuntime(() => new Tensor('', data, dims))
  const bad: [ReturnType<typeof fakeRuntime>, RegExp][] = [
    [flat([1, 8, 2, 2]), /first output is 1 x 8 x 2 x 2/],
    [flat([2, 4]), /first output is 2 x 4/],
    [flat([1, 0]), /1 x 0/],
    [flat([1, 8], new Float64Array(8)), /first output/],
    [fakeRuntime(() => undefined), /missing/],
    [fakeRuntime(undefined, ['a', 'b']), /2 inputs/],
    [
      fakeRuntime(() => {
        throw new Error('bad shape')
      }),
      /does not take 1 x 3 x 299 x 299: bad shape/,
    ],
  ]
  for (const [{ runtime, log }, message] of bad) {
    await t.throwsAsync(loadInception(path, { runtime }), { ...format, message })
    t.is(log.at(-1), 'released')
  }
  const { runtime } = fakeRuntime()
  runtime.InferenceSession.create = async () => {
    throw new Error('protobuf')
  }
  await t.throwsAsync(loadInception(path, { runtime }), { ...format, message: /cannot be loaded: protobuf/ })
})

test('without onnxruntime-node: what to install', async (t) => {
  const path = await graphFile(t)
  const error = await t.throwsAsync(loadInception(path), { code: 'ERR_VILG_UNSUPPORTED' })
  t.regex(error!.message, /npm install onnxruntime-node/)
  await t.throwsAsync(loadInception(join(path, 'missing')), { code: 'ERR_VILG_IO' })
  await t.throwsAsync(loadInception(path, { runtime: {} as never }), { ...invalid, message: /runtime/ })
  await t.throwsAsync(loadInception(path, { thread: 1 } as object), invalid)
})

/** The first pixel of each picture. */
const firstPixel: FeatureExtractor = {
  dimensions: 3,
  extract: (images) => Float32Array.from(images.flatMap(({ pixels }) => [...pixels.subarray(0, 3)])),
}

test('statistics of a folder of pictures of any sizes, in batches', async (t) => {
  const folder = await temporaryFolder(t)
  const colors = [0, 30, 60, 90, 120]
  for (const [i, color] of colors.entries()) {
    await writePng(join(folder, `${i}.PNG`), new Uint8Array(3 * (i + 1)).fill(color), i + 1, 1)
  }
  await writeFile(join(folder, 'notes.txt'), 'no picture')
  const files = await folderImages(folder)
  t.deepEqual(
    files,
    colors.map((_, i) => join(folder, `${i}.PNG`)),
  )
  const events: unknown[] = []
  const statistics = await imageStatistics(files, firstPixel, {
    batch: 2,
    onProgress: (event) => events.push(event),
  })
  t.deepEqual(
    events,
    [2, 4, 5].map((done) => ({ done, total: 5 })),
  )
  const { mean, covariance } = await statistics.gaussian()
  t.deepEqual([...mean], [60, 60, 60])
  t.is(covariance[1], 2250)
  async function* stream() {
    yield* files
  }
  t.deepEqual(await (await imageStatistics(stream(), firstPixel)).gaussian(), { mean, covariance })
})

test('a picture that cannot be read, an abort, and an extractor that is none end the work', async (t) => {
  const folder = await temporaryFolder(t)
  await t.throwsAsync(folderImages(folder), { ...invalid, message: /folder with pictures/ })
  await t.throwsAsync(folderImages(join(folder, 'missing')), { code: 'ERR_VILG_IO' })
  await writeFile(join(folder, 'broken.png'), 'PNG')
  await t.throwsAsync(imageStatistics(await folderImages(folder), firstPixel), {
    ...invalid,
    message: /broken/,
  })
  const picture = pattern(2, 2)
  const controller = new AbortController()
  const ended = imageStatistics([picture, picture], firstPixel, {
    batch: 1,
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('enough')),
  })
  await t.throwsAsync(ended, { message: 'enough' })
  const short = { dimensions: 3, extract: () => new Float32Array(2) }
  await t.throwsAsync(imageStatistics([picture], short), {
    code: 'ERR_VILG_SHAPE_MISMATCH',
    message: /extractor/,
  })
  const broken = { dimensions: 1, extract: () => new Float32Array([NaN]) }
  await t.throwsAsync(imageStatistics([picture], broken), { ...invalid, message: /NaN/ })
  await t.throwsAsync(imageStatistics([picture], {} as never), { ...invalid, message: /extractor/ })
})
