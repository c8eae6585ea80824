import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ByteSource, MemoryBytes } from '../../../lib/checkpoint/byte-source.ts'
import { readFormat } from '../../../lib/checkpoint/open-checkpoint.ts'
import { TensorFile } from '../../../lib/checkpoint/tensor-source.ts'
import { VilgError } from '../../../lib/index.ts'
import { randomFrom } from '../../model/helpers.ts'
import { Draws } from './mutate.ts'
import { mutators } from './seeds.ts'

/** What became of the cases of one kind. */
export interface FuzzCounts {
  /** Files that were read to the end. */
  read: number
  /** Those that were refused, by the code of the error. */
  refused: Record<string, number>
}

/** A case that ended in anything but tensors or an error of ours. */
export interface FuzzFailure {
  kind: string
  /** Which case it was: the same number gives the same file. */
  case: number
  reason: string
}

/** What {@link fuzz} found. */
export interface FuzzResult {
  counts: Record<string, FuzzCounts>
  failures: FuzzFailure[]
}

// What damaged or unknown files are refused with; INTERNAL, INVALID_ARGUMENT and all others would be bugs
const expectedCodes: ReadonlySet<string> = new Set(['ERR_VILG_CHECKPOINT_FORMAT', 'ERR_VILG_UNSUPPORTED'])
// A reader that asks for more than this is lost in a loop: every format is read once, and each tensor once or, out of order, a few times
const readsAtMost = 20_000
const bytesAtMost = 2 ** 26
// Larger tensors are views that repeat elements; they are described, and not read
const elementsAtMost = 2 ** 14

/** Memory that counts what is read of it. */
class CountedBytes implements ByteSource {
  readonly #memory: MemoryBytes
  #reads = 0
  #bytes = 0

  constructor(bytes: Uint8Array) {
    this.#memory = new MemoryBytes(bytes)
  }

  get size(): number {
    return this.#memory.size
  }

  read(position: number, length: number): Promise<Uint8Array> {
    this.#reads++
    const bytes = this.#memory.read(position, length)
    // after the check of the range, so that no impossible length is counted
    if (length <= this.size) this.#bytes += length
    if (this.#reads > readsAtMost || this.#bytes > bytesAtMost) throw new Error('reads without end')
    return bytes
  }

  async close(): Promise<void> {}
}

/**
 * Opens and reads mutated files of every kind, each made of its number alone.
 *
 * @param first number of the first case
 * @param onCase called now and then with the number of cases done
 */
export async function fuzz(
  first: number,
  count: number,
  onCase: (done: number) => void = () => {},
): Promise<FuzzResult> {
  const all = Object.entries(mutators())
  const counts: Record<string, FuzzCounts> = Object.fromEntries(
    all.map(([kind]) => [kind, { read: 0, refused: {} }]),
  )
  const failures: FuzzFailure[] = []
  const folder = await mkdtemp(join(tmpdir(), 'vilg-fuzz-'))
  const path = join(folder, 'file')
  try {
    for (let i = first; i < first + count; i++) {
      const [kind, mutate] = all[i % all.length]!
      const draws = new Draws(randomFrom(i))
      const bytes = mutate(draws)
      // the native reader of safetensors files maps a file
      if (kind.startsWith('safetensors')) await writeFile(path, bytes)
      const outcome = await readAll(path, bytes, draws.chance(0.5))
      const found = counts[kind]!
      if (outcome === undefined) found.read++
      else if (outcome instanceof VilgError && expectedCodes.has(outcome.code)) {
        found.refused[outcome.code] = (found.refused[outcome.code] ?? 0) + 1
      } else failures.push({ kind, case: i, reason: String((outcome as Error).stack ?? outcome) })
      if (i % 1000 === 0) onCase(i - first)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  return { counts, failures }
}

/** Reads every tensor of a file; what was thrown, or undefined. */
async function readAll(path: string, bytes: Uint8Array, checksums: boolean): Promise<unknown> {
  const source = new CountedBytes(bytes)
  try {
    const { kind, contents } = await readFormat(path, source, checksums)
    await using file = new TensorFile(path, kind, contents, [source], checksums)
    JSON.stringify(file.metadata)
    for (const [name, { shape, dtype }] of file.tensors) {
      const elements = shape.reduce((product, dim) => product * dim, 1)
      if (elements > elementsAtMost || dtype.startsWith('F8')) continue
      const data = await file.read(name)
      if (data.length !== elements)
        return new Error(`${name}: ${data.length} elements for [${shape.join(', ')}]`)
    }
    return undefined
  } catch (error) {
    return error
  }
}
