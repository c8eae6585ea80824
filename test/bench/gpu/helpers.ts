import { judgeRows } from '../../../bench/gpu/judge.ts'
import { type Check, type Entry, type Measured, measured, US } from '../../../bench/gpu/records.ts'
import type { GpuResult } from '../../../bench/gpu/result.ts'
import { makeRows, PEERS } from '../../../bench/gpu/rows.ts'
import { makeSettings } from '../../../bench/gpu/settings.ts'

export const settings = makeSettings({})
export const rows = makeRows(settings)

/** A measurement of so many milliseconds. */
export function took(row: string, milliseconds: number, by: string = US): Measured {
  return measured(row, by, [milliseconds], 'wall')
}

/** A result of made-up times. */
export function makeGpuResult(entries: Entry[], checks: Check[] = []): GpuResult {
  return {
    command: 'scripts/gpu.sh',
    date: '2024-05-06T07:08:09.000Z',
    git: { commit: '0123456789abcdef0123456789abcdef01234567', dirty: false },
    device: {
      device: 'cuda:0',
      name: 'NVIDIA H200',
      computeCapability: '9.0',
      multiprocessors: 132,
      memory: { available: 1e11, total: 1.4e11 },
      emulated: false,
    },
    libraries: {
      cublasLt: { version: '13.1.0', path: '/usr/lib/libcublasLt.so.13' },
      nccl: { missing: 'why' },
    },
    driver: '580.1',
    machine: { cpu: 'A CPU', cores: 16, memoryBytes: 1e11, platform: 'linux-x64', node: '20.19.0' },
    peers: { python: '3.12.3', torch: '2.11.0', cuda: '13.0' },
    seconds: 400,
    settings,
    checks,
    judged: judgeRows(rows, entries),
    entries,
  }
}

/** One of everything that the table compares. */
export const entries: Entry[] = [
  took('copy', 4), // 16 GB in 4 ms: 4 TB/s
  took('copy', 4, PEERS.torch),
  took('attention/row/forward/16', 0.2),
  took('attention/row/forward/16', 0.4, PEERS.flex),
  took('attention/row/forward/16', 2, PEERS.maskedSdpa),
  took('decode/1', 6),
  took('decode/60', 8.4),
  took('decode/1', 12, PEERS.torch),
  took('decode/1', 8.4, PEERS.compiled),
  { row: 'decode/60', by: PEERS.torch, failed: 'OutOfMemoryError: too much\nand more' },
  { row: 'vqgan', by: PEERS.torch, failed: 'exit code 3' },
  took('vqgan/1', 1),
]
