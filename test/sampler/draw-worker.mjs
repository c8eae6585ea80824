// A thread of its own that loads a bundle and draws one picture: run by calls.test.ts.
import { parentPort, workerData } from 'node:worker_threads'
import { register } from 'tsx/esm/api'

register() // Node 20 does not hand the loader of the main thread down
const { ErnieVilg, Sampler } = await import('../../lib/index.ts')
const { folder, prompt } = workerData
const model = await ErnieVilg.load(folder)
const [{ tokens, logProbability, pixels }] = await new Sampler(model).textToImage(prompt, { seed: 8 })
await model.dispose()
parentPort.postMessage({ tokens, logProbability, pixels })
