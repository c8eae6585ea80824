import type { Ceilings } from '../lib/ceilings.ts'
import { type Distribution, distribution } from './statistics.ts'
import type { Case, Target, Work } from './trial.ts'

/** One case, measured. Times are milliseconds. */
export interface Measurement extends Distribution {
  name: string
  title: string
  work: Work
  /** The measured ceiling a second, and the share of it that the median comes to. */
  limit?: { of: keyof Ceilings; perSecond: number; share: number }
  /** `speedup`: its median over ours; `possible`: what it would be if both did their work equally quickly, where that can be said. */
  peer?: Distribution & { name: string; speedup: number; possible?: number }
  peerMissing?: string
  target: Target
  /** Null where it cannot be said: no peer, or no such ceiling on this machine. */
  reached: boolean | null
  details: Record<string, number>
}

const defaultSamples = 20
/** The case and its peer take turns this often, so that what else the machine does meets both. */
const maxTurns = 5

/** The number of samples that a case gets. */
export function sampleCount(samples: number | undefined, quick: boolean): number {
  return quick ? Math.min(3, samples ?? defaultSamples) : (samples ?? defaultSamples)
}

/** Times a case and its peer in turns. */
export async function takeSamples(one: Case, quick: boolean): Promise<{ own: number[]; peer: number[] }> {
  const wanted = sampleCount(one.samples, quick)
  const turns = Math.min(maxTurns, wanted)
  const own: number[] = []
  const peer: number[] = []
  // check() has run the case already: this warms up the peer, and the case once more
  await one.run(1)
  await one.peer?.run(1)
  for (let turn = 0; turn < turns; turn++) {
    await fill(own, Math.round((wanted * (turn + 1)) / turns), one.run.bind(one))
    if (one.peer) await fill(peer, Math.round((wanted * (turn + 1)) / turns), one.peer.run.bind(one.peer))
  }
  return { own, peer }
}

async function fill(
  to: number[],
  count: number,
  run: (repeats: number) => Promise<readonly number[]>,
): Promise<void> {
  while (to.length < count) {
    const times = await run(count - to.length)
    if (times.length === 0) throw new Error('Expected a run to return its times, received none')
    to.push(...times)
  }
}

/** What samples and ceilings come to. */
export function judge(
  one: Case,
  samples: { own: number[]; peer: number[] },
  ceilings: Ceilings,
): Measurement {
  const own = distribution(samples.own)
  const { name, title, work, target } = one
  const measurement: Measurement = {
    name,
    title,
    ...own,
    work,
    target,
    reached: null,
    details: one.details?.() ?? {},
  }
  const amount = one.limit === 'readBytes' ? work.bytes : work.flops
  if (one.limit && amount !== undefined && ceilings[one.limit] > 0) {
    const perSecond = ceilings[one.limit]
    measurement.limit = { of: one.limit, perSecond, share: amount / (own.median / 1000) / perSecond }
  }
  if (one.peer) {
    const times = distribution(samples.peer)
    const { name, workRatio } = one.peer
    measurement.peer = {
      name,
      ...times,
      speedup: times.median / own.median,
      ...(workRatio === undefined ? {} : { possible: workRatio }),
    }
  } else if (one.peerMissing !== undefined) {
    measurement.peerMissing = one.peerMissing
  }
  measurement.reached = reached(measurement)
  return measurement
}

function reached({ target, limit, peer, median }: Measurement): boolean | null {
  switch (target.kind) {
    case 'share':
      return limit ? limit.share >= target.atLeast : null
    case 'speedup':
      return peer ? peer.speedup >= target.atLeast : null
    case 'factor':
      return peer ? 1 / peer.speedup <= target.atMost : null
    case 'milliseconds':
      return median <= target.atMost
  }
}

/** The better of two measurements of the ceilings: disturbances only lower them. */
export function bestCeilings(a: Ceilings, b: Ceilings): Ceilings {
  return {
    float32Flops: Math.max(a.float32Flops, b.float32Flops),
    bfloat16Flops: Math.max(a.bfloat16Flops, b.bfloat16Flops),
    readBytes: Math.max(a.readBytes, b.readBytes),
  }
}
