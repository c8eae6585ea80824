import { fileURLToPath } from 'node:url'
import { readCheckpoint } from '../../lib/trainer/checkpoint.ts'
import { type RunOptions, trainRun } from '../../lib/trainer/run.ts'
import type { GeneratorStep } from '../../lib/trainer/training-loop.ts'
import { fakeBatch, fakeBatches, FakeTrainer } from './fake.ts'

const training = { learningRate: 0.05, schedule: 'cosine', totalSteps: 20, warmupSteps: 3 } as const

/** A run of 20 steps with everything in it. */
export const fakeRun: RunOptions<GeneratorStep, FakeTrainer> = {
  settings: { learning: { rate: 0.1 } },
  steps: 20,
  create: async () => new FakeTrainer(training),
  resume: async (path) => {
    const { header, statePath } = await readCheckpoint(path)
    const trainer = new FakeTrainer(header.options)
    await trainer.native.loadState(statePath)
    return trainer
  },
  batches: (start) => fakeBatches(start),
  evaluate: (trainer) =>
    trainer.evaluate(
      (async function* () {
        yield fakeBatch(1000)
      })(),
    ),
  evaluateEvery: 5,
  sample: async () => ({ images: [{ pixels: new Uint8Array(48), width: 4, height: 4 }] }),
  sampleEvery: 6,
  checkpointSteps: 4,
  progress: false,
}

// As a process of its own, to be killed: tells of every step and checkpoint, and takes its time.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await trainRun(process.argv[2]!, {
    ...fakeRun,
    onLog: ({ type, step }) => {
      if (type === 'checkpoint') console.log(`checkpoint ${step}`)
    },
    async *batches(start) {
      for await (const batch of fakeBatches(start)) {
        await new Promise((resolve) => setTimeout(resolve, 30))
        console.log('step')
        yield batch
      }
    },
  })
}
