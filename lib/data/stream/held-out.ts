import { createHash } from 'node:crypto'

/** One of the two parts that samples are split into by their ids, each sample with the same probability. */
export interface StreamPart {
  name: 'train' | 'held-out'
  /** Share of the samples that is held out, from 0 to 1. */
  share: number
  seed: number
}

/** Whether a sample belongs to a part: it depends on its id and the seed alone, so no list of samples is needed. */
export function isInPart(id: string, part: StreamPart | undefined): boolean {
  if (part === undefined) return true
  const digest = createHash('sha256').update(`${part.seed}:${id}`).digest()
  const isHeldOut = digest.readUInt32LE(0) / 2 ** 32 < part.share
  return isHeldOut === (part.name === 'held-out')
}
