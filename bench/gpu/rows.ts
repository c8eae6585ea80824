// The rows of the table, and what is to be reached (docs/cuda.md).
import { drawTokenBytes, matmulFlops } from '../flops.ts'
import type { Settings } from './settings.ts'

/** The patterns that are measured. */
export const PATTERNS = ['row', 'column', 'conv'] as const
type MeasuredPattern = (typeof PATTERNS)[number]
type Pass = 'forward' | 'backward'

export const attentionRow = (pattern: MeasuredPattern, pass: Pass, batch: number): string =>
  `attention/${pattern}/${pass}/${batch}`
export const decodeRow = (candidates: number): string => `decode/${candidates}`
export const vqganRow = (images: number): string => `vqgan/${images}`

/** What a row is compared with. Without `atLeast` or `atMost` it is only said. */
export type Claim =
  /** With the best of some others, by name. */
  | { kind: 'speedup'; over: readonly string[]; atLeast?: number }
  /** With what the device copies: the bytes that have to be read, a time of the row, over those that a copy reads and writes. */
  | { kind: 'bandwidth'; bytes: number; atLeast?: number }
  /** With another row of ours: this one's time over that one's. */
  | { kind: 'factor'; of: string; what: string; atMost?: number }

export interface Row {
  id: string
  title: string
  /** What it comes to, if there is a natural unit for it. */
  rate?: { amount: number; unit: 'FLOP/s' | 'B/s' }
  claims: readonly Claim[]
}

/** Names of the peers, which bench/peers/torch uses too. */
export const PEERS = {
  torch: 'PyTorch',
  compiled: 'PyTorch, torch.compile',
  flex: 'FlexAttention',
  maskedSdpa: 'SDPA with a mask',
  cdist: 'torch.cdist + argmin',
} as const
/** Ourselves where cuBLASLt is switched off. */
export const WITHOUT_LIBRARY = 'ernie-vilg without cuBLASLt'

const attentionTargets = {
  row: { forward: 1.5, backward: 1.3 },
  column: { forward: 3, backward: 2 },
  conv: { forward: 1.5, backward: 1.3 },
} as const

export function makeRows(settings: Settings): Row[] {
  const { ceilings, attention, decode, train, vqgan, codebook } = settings
  const best = [PEERS.torch, PEERS.compiled]
  const side = ceilings.matmulSide
  const length = attention.textLength + 1 + attention.grid ** 2
  const [first] = decode.candidates as [number, ...number[]]
  const bytes = drawTokenBytes(decode.config)
  const plural = (count: number, what: string) => `${count} ${what}${count === 1 ? '' : 's'}`
  return [
    {
      id: 'copy',
      title: `copy ${ceilings.copyBytes / 1e9} GB of memory`,
      rate: { amount: 2 * ceilings.copyBytes, unit: 'B/s' },
      claims: [{ kind: 'speedup', over: [PEERS.torch] }],
    },
    {
      id: 'matmul',
      title: `matmul bfloat16, ${side} cubed`,
      rate: { amount: matmulFlops(side, side, side), unit: 'FLOP/s' },
      claims: [
        { kind: 'speedup', over: [PEERS.torch] },
        { kind: 'speedup', over: [WITHOUT_LIBRARY] },
      ],
    },
    ...attention.batches.flatMap((batch) =>
      PATTERNS.flatMap((pattern) =>
        (['forward', 'backward'] as const).map((pass): Row => ({
          id: attentionRow(pattern, pass, batch),
          title: `${pattern} attention ${pass}, ${attention.heads} heads of ${attention.headSize}, N = ${length}, batch ${batch}`,
          claims: [
            { kind: 'speedup', over: [PEERS.flex], atLeast: attentionTargets[pattern][pass] },
            { kind: 'speedup', over: [PEERS.maskedSdpa] },
          ],
        })),
      ),
    ),
    ...decode.candidates.map((candidates): Row => ({
      id: decodeRow(candidates),
      title: `decode step, ${decode.model}, bfloat16, ${plural(candidates, 'candidate')}`,
      claims: [
        candidates === first
          ? { kind: 'bandwidth', bytes, atLeast: 0.75 }
          : {
              kind: 'factor',
              of: decodeRow(first),
              what: plural(first, 'candidate'),
              atMost: 1.35,
            },
        { kind: 'speedup', over: best, atLeast: 1.5 },
      ],
    })),
    {
      id: 'train',
      title: `training step, ${train.model}, ${plural(train.pairs, 'pair')} in both directions, bfloat16`,
      claims: [{ kind: 'speedup', over: best, atLeast: 1.1 }],
    },
    ...vqgan.images.map((images): Row => ({
      id: vqganRow(images),
      title: `decode ${plural(images, 'picture')}, ${vqgan.model}, bfloat16`,
      claims: [{ kind: 'speedup', over: best, atLeast: 1.2 }],
    })),
    {
      id: 'codebook',
      title: `codebook lookup, ${codebook.rows} vectors, ${codebook.size} x ${codebook.dim}`,
      claims: [{ kind: 'speedup', over: [PEERS.cdist], atLeast: 4 }],
    },
  ]
}
