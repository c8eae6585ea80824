// npm run test:kill [-- times]: trains a tiny generator, kills the training with SIGKILL at random moments, and lets it go on, 50 times
// unless told otherwise. Each time it has to go on, from no older state than the newest checkpoint that it had reported; at its end, the
// model must have the bits of one that was trained without a break.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CounterRandom } from '../../lib/data/random.ts'
import { Generator } from '../../lib/model/generator.ts'
import type { GeneratorBatch } from '../../lib/trainer/generator-learner.ts'
import { readLog } from '../../lib/trainer/run-log.ts'
import { trainRun } from '../../lib/trainer/run.ts'
import { Trainer } from '../../lib/trainer/trainer.ts'
import type { GeneratorStep } from '../../lib/trainer/training-loop.ts'

const model = {
  layers: 2,
  hidden: 32,
  heads: 2,
  textVocab: 13,
  imageVocab: 11,
  textLength: 5,
  grid: 3,
  kernel: 3,
}
const training = { learningRate: 1e-3 }

function batchOf(number: number): GeneratorBatch {
  const random = new CounterRandom(1, number)
  const pairs = 2
  return {
    text: Int32Array.from({ length: pairs * 5 }, (_, i) => (i % 5 === 0 ? 1 : random.below(13))),
    textValid: new Uint8Array(pairs * 5).fill(1),
    image: Int32Array.from({ length: pairs * 9 }, () => random.below(11)),
  }
}

/** The whole training, or what is left of it: says which checkpoints it made, and takes a moment for each step. */
async function train(folder: string, steps: number): Promise<void> {
  const { trainer } = await trainRun<GeneratorStep, Trainer<GeneratorStep>>(folder, {
    settings: { model, training },
    steps,
    create: async () => new Trainer(await Generator.create(model, { seed: 1 }), training),
    resume: (path) => Trainer.resume(path),
    async *batches(start) {
      for (let number = start; ; number++) {
        await new Promise((resolve) => setTimeout(resolve, 2))
        yield batchOf(number)
      }
    },
    checkpointSteps: 3,
    onLog: ({ type, step }) => {
      if (type === 'checkpoint') console.log(`checkpoint ${step}`)
    },
    progress: false,
  })
  await trainer.target.save(join(folder, 'model'))
  await trainer.dispose()
}

async function digest(folder: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(join(folder, 'model', 'weights.safetensors')))
    .digest('hex')
}

async function newestCheckpoint(folder: string): Promise<number> {
  const names = await readdir(join(folder, 'checkpoints')).catch(() => [])
  return Math.max(0, ...names.map(Number).filter((step) => step >= 0))
}

async function main(times: number): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'vilg-kill-'))
  try {
    const folder = join(root, 'run')
    const steps = 30 * times
    const random = new CounterRandom(Date.now() % 2 ** 31)
    let reported = 0
    for (let kill = 1; kill <= times; kill++) {
      const child = spawn(
        process.execPath,
        ['--import=tsx', fileURLToPath(import.meta.url), 'train', folder, String(steps)],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      let said = ''
      child.stdout.on('data', (text: Buffer) => {
        // counted from its first checkpoint, so that the start of node does not take all the kills
        if (said === '') setTimeout(() => child.kill('SIGKILL'), random.below(150))
        said += text.toString()
      })
      const [, signal] = (await once(child, 'close')) as [number | null, string | null]
      if (signal !== 'SIGKILL') throw new Error(`the training ended by itself after ${kill - 1} kills`)
      reported = Math.max(
        reported,
        ...[...said.matchAll(/checkpoint (\d+)/g)].map(([, step]) => Number(step)),
      )
      const newest = await newestCheckpoint(folder)
      if (newest < reported) throw new Error(`checkpoint ${reported} was reported, ${newest} is there`)
      console.log(`kill ${kill}: checkpoint ${reported} was reported, ${newest} is there`)
    }
    await train(folder, steps)
    await train(join(root, 'whole'), steps)
    if ((await digest(folder)) !== (await digest(join(root, 'whole')))) {
      throw new Error('the model differs from that of a training without a break')
    }
    const log = await readLog(join(folder, 'log.jsonl'))
    const seen = log.filter(({ type }) => type === 'step').map(({ step }) => step)
    if (seen.some((step, i) => step !== i + 1)) throw new Error('the log lacks steps or has some twice')
    console.log(`went on ${times} times, to the bits of a training without a break`)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}

const [command, folder, steps] = process.argv.slice(2)
if (command === 'train') await train(folder!, Number(steps))
else await main(Number(command ?? 50))
