import { readFile, writeFile } from 'node:fs/promises'
import type { NativeGeneratorTrainer } from '../../types/native-models.d.ts'
import type { StopFlag, TaskControl } from '../../types/native.d.ts'
import { stopped } from '../../lib/native/binding.ts'
import { type GeneratorBatch, GeneratorLearner } from '../../lib/trainer/generator-learner.ts'
import { resolveTrainerOptions, type TrainerOptions } from '../../lib/trainer/options.ts'
import { type GeneratorStep, TrainingLoop } from '../../lib/trainer/training-loop.ts'

export const textLength = 4
export const grid = 2

class FakeStopFlag implements StopFlag {
  raised = false
  disposed = false
  raise() {
    this.raised = true
  }
  dispose() {
    this.disposed = true
  }
}

/**
 * A native trainer of a model with one weight w, for what needs no model: order of calls, files, and failures at will. Its losses
 * are half the squared distances of w to the mean image token and to the mean text token.
 */
export class FakeNative implements NativeGeneratorTrainer {
  weight = 0
  momentum = 0
  gradient = 0
  steps = 0
  disposed = false
  calls: string[] = []
  /** Called before every accumulate; what it returns stands for the losses. */
  onAccumulate: () => void | number | Promise<void | number> = () => {}
  onSave: (path: string) => void | Promise<void> = () => {}
  gradientScale = 1

  async accumulate(
    ...[text, valid, image, , , options, scale, control]: Parameters<NativeGeneratorTrainer['accumulate']>
  ) {
    this.calls.push('accumulate')
    const forced = await this.onAccumulate()
    if (control?.stop?.raised) {
      this.gradient = 0
      throw stopped
    }
    const real = [...text].filter((_, i) => valid[i] === 1 && i % textLength > 0)
    const toImage = this.weight - mean([...image])
    const toText = this.weight - mean(real)
    this.gradient +=
      scale * this.gradientScale * (options.textToImageWeight * toImage + options.imageToTextWeight * toText)
    return { textToImage: forced ?? toImage ** 2 / 2, imageToText: toText ** 2 / 2 }
  }

  async apply(learningRate: number) {
    this.calls.push('apply')
    const gradientNorm = Math.abs(this.gradient)
    const applied = Number.isFinite(gradientNorm)
    if (applied) {
      this.momentum = 0.9 * this.momentum + this.gradient
      this.weight -= learningRate * this.momentum
      this.steps++
    }
    this.gradient = 0
    return { gradientNorm, applied }
  }

  async saveState(path: string) {
    const { weight, momentum, steps } = this
    await this.onSave(path)
    await writeFile(path, JSON.stringify({ weight, momentum, steps }))
  }

  async loadState(path: string, _control?: TaskControl) {
    Object.assign(this, JSON.parse(await readFile(path, 'utf8')) as object)
  }

  dispose() {
    this.disposed = true
  }
}

/** A trainer over a {@link FakeNative}. */
export class FakeTrainer extends TrainingLoop<GeneratorStep> {
  readonly native: FakeNative
  targetDisposed = false

  constructor(options: TrainerOptions = {}, native = new FakeNative()) {
    const resolved = resolveTrainerOptions('generator', options)
    const generator = {
      config: { textLength, grid },
      parameterCount: 1,
      forward: async (batch: GeneratorBatch, { direction }: { direction: string }) => {
        const tokens = direction === 'text-to-image' ? batch.image : batch.text
        return { loss: (native.weight - mean([...tokens])) ** 2 / 2 }
      },
    }
    const target = { disposed: false, dispose: async () => void (this.targetDisposed = true) }
    super({
      target,
      learner: new GeneratorLearner(native, generator, resolved),
      options: resolved,
      newStopFlag: () => new FakeStopFlag(),
      model: { textLength, grid },
      owned: true,
    })
    this.native = native
  }
}

/** A batch of pairs, whose tokens follow from `number`. */
export function fakeBatch(number: number, pairs = 2): GeneratorBatch {
  const texts = Array.from({ length: pairs }, (_, i) => [1, (number + i) % 5, 2, 0])
  const valid = texts.map((_, i) => (i % 2 === 0 ? [1, 1, 1, 0] : [1, 1, 0, 0]))
  const images = texts.map((_, i) => Array.from({ length: grid * grid }, (_, p) => (number * 3 + i + p) % 7))
  return {
    text: Int32Array.from(texts.flat()),
    textValid: Uint8Array.from(valid.flat()),
    image: Int32Array.from(images.flat()),
  }
}

/** Endless batches from number `start` on. */
export async function* fakeBatches(start = 0, pairs = 2): AsyncGenerator<GeneratorBatch> {
  for (let number = start; ; number++) yield fakeBatch(number, pairs)
}

/** All that an async iterable gives. */
export async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const value of values) all.push(value)
  return all
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
