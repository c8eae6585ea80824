// Converts a checkpoint and is gone in the middle of it: node --import tsx killed.ts <weights> <to>
import { convertCheckpoint } from '../../lib/index.ts'

const [weights, to] = process.argv.slice(2)
await convertCheckpoint({
  weights: weights!,
  to: to!,
  resolution: 32,
  onProgress: ({ fraction }) => {
    if (fraction > 0.5) process.kill(process.pid, 'SIGKILL')
  },
})
