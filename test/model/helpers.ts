import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import {
  type ErrorCode,
  Generator,
  type GeneratorConfig,
  SafetensorsFile,
  type TokenBatch,
} from '../../lib/index.ts'
import type { Device } from '../../lib/index.ts'

/** Where computing is held against the reference: the fast kernels, and the oracle, which is in no public type. */
export const devices = ['cpu', 'ref'] as Device[]

export const fixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))

/** A float32 tensor of a fixture. */
export async function floats(file: SafetensorsFile, name: string): Promise<Float32Array> {
  return file.readFloat32(name)
}

/** |actual - expected| / |expected|, in double; infinite where lengths differ or something is not finite. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity
  let difference = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    difference += (actual[i]! - expected[i]!) ** 2
    norm += expected[i]! ** 2
  }
  const error = norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm)
  return Number.isFinite(error) ? error : Infinity
}

/** Uniform numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What generators and matchers have in common. */
type Sizes = Omit<GeneratorConfig, 'model'>

/** A generator that is quick to run; what is given replaces fields. */
export function tinyConfig(changes: Partial<Sizes> = {}): Sizes {
  return {
    layers: 5,
    hidden: 24,
    heads: 3,
    textVocab: 19,
    imageVocab: 23,
    textLength: 7,
    grid: 3,
    kernel: 3,
    ...changes,
  }
}

/**
 * A random generator whose scores are far from uniform: fresh weights have standard deviation 0.02, which would hide mistakes in the
 * softmax. Its weights are those of a file that is written and read again, ten times as large where they are matrices. `likely` adds to
 * the scores of text tokens, by id.
 */
export async function lively(
  t: ExecutionContext,
  changes: Partial<GeneratorConfig> = {},
  options: {
    device?: Device
    seed?: number
    precision?: 'float32' | 'bfloat16'
    likely?: Record<number, number>
  } = {},
): Promise<Generator> {
  const folder = await temporaryFolder(t)
  const config = tinyConfig(changes)
  await using fresh = await Generator.create(config, { seed: options.seed ?? 1 })
  await fresh.save(folder)
  const { writeSafetensors } = await import('../../lib/index.ts')
  const path = join(folder, 'weights.safetensors')
  await using file = await SafetensorsFile.open(path)
  const tensors = await Promise.all(
    [...file.tensors.values()].map(async ({ name, shape }) => {
      const data = await file.readFloat32(name)
      const matrix = shape.length > 1
      const random = randomFrom(name.length * 7919 + (options.seed ?? 1))
      return {
        name,
        shape: [...shape],
        data: data.map((x, i) => {
          const more = name === 'text_head.bias' ? (options.likely?.[i] ?? 0) : 0
          return matrix ? 10 * x : x + 0.2 * (random() - 0.5) + more
        }),
      }
    }),
  )
  await writeSafetensors(path, tensors)
  const { seed: _, likely: _likely, ...load } = options
  const generator = await Generator.load(folder, load)
  t.teardown(() => generator.dispose())
  return generator
}

type BatchSizes = Pick<GeneratorConfig, 'textLength' | 'grid' | 'textVocab' | 'imageVocab'>

/** Pairs of random tokens; texts of random lengths, PAD after them. */
export function randomBatch(config: BatchSizes, pairs: number, seed: number): TokenBatch {
  const random = randomFrom(seed)
  const { textLength: m, grid, textVocab, imageVocab } = config
  const text = new Int32Array(pairs * m)
  const textValid = new Uint8Array(pairs * m)
  for (let b = 0; b < pairs; b++) {
    const used = 2 + Math.floor(random() * (m - 1))
    for (let j = 0; j < m; j++) {
      text[b * m + j] = Math.floor(random() * textVocab)
      textValid[b * m + j] = j < used ? 1 : 0
    }
  }
  const image = Int32Array.from({ length: pairs * grid * grid }, () => Math.floor(random() * imageVocab))
  return { text, textValid, image }
}

/** log softmax of one row of logits at `token`, in double. */
export function logProbability(logits: Float32Array, start: number, vocab: number, token: number): number {
  let largest = -Infinity
  for (let v = 0; v < vocab; v++) largest = Math.max(largest, logits[start + v]!)
  let sum = 0
  for (let v = 0; v < vocab; v++) sum += Math.exp(logits[start + v]! - largest)
  return logits[start + token]! - largest - Math.log(sum)
}

/** A folder that goes when the test ends. */
export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ernie-vilg-test-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Throws unless the promise rejects with this code; returns the error. */
export async function refuses(
  t: ExecutionContext,
  promise: Promise<unknown> | (() => Promise<unknown>),
  code: ErrorCode,
  ...words: (string | RegExp)[]
): Promise<Error & { code: string; details?: Record<string, unknown> }> {
  const error = (await t.throwsAsync(promise as Promise<unknown>, { code })) as Error & { code: string }
  for (const word of words) {
    if (typeof word === 'string') t.true(error.message.includes(word), `${error.message} -- lacks ${word}`)
    else t.regex(error.message, word)
  }
  return error
}
