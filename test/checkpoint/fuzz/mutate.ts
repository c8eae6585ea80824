import { INCOMPLETE, OPCODES, readInstruction } from '../../../lib/checkpoint/pickle/opcodes.ts'

/** Draws for mutations, the same for the same seed. */
export class Draws {
  readonly #random: () => number
  constructor(random: () => number) {
    this.#random = random
  }
  /** 0 to n - 1. */
  below(n: number): number {
    return Math.floor(this.#random() * n)
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }
  chance(probability: number): boolean {
    return this.#random() < probability
  }
  /** How many changes to make: mostly one, since each further one makes it likelier that nothing behind the first is looked at. */
  changes(): number {
    let count = 1
    while (count < 6 && this.chance(0.3)) count++
    return count
  }
}

// What breaks readers: ends of ranges, and numbers that become others by a wrong sign or width
const numbers = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 40n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n] // prettier-ignore

function littleEndian(value: bigint, width: number): Uint8Array {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes.subarray(0, width)
}

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Uint8Array {
  return Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(Math.min(at + remove, bytes.length))])
}

/** A few changes that know nothing of the format. */
export function mutateBytes(bytes: Uint8Array, other: Uint8Array, draws: Draws): Uint8Array {
  let out: Uint8Array = Uint8Array.from(bytes)
  for (let n = draws.changes(); n > 0 && out.length > 0; n--) {
    const at = draws.below(out.length)
    switch (draws.below(10)) {
      case 0:
        out[at]! ^= 1 << draws.below(8)
        break
      case 1:
        out[at] = draws.below(256)
        break
      case 8:
      case 9: // a byte that the format is likely to know
        out[at] = out[draws.below(out.length)]!
        break
      case 2: {
        const value = littleEndian(draws.pick(numbers), draws.pick([1, 2, 4, 8]))
        out = splice(out, at, value.length, value)
        break
      }
      case 3:
        out = out.subarray(0, at)
        break
      case 4:
        out = splice(out, at, 1 + draws.below(16), new Uint8Array())
        break
      case 5: {
        const from = draws.below(out.length)
        out = splice(out, at, 0, out.slice(from, from + 1 + draws.below(64)))
        break
      }
      case 6: {
        const from = draws.below(other.length)
        const part = other.subarray(from, from + 1 + draws.below(256))
        out = splice(out, at, part.length, part)
        break
      }
      default:
        out = splice(
          out,
          at,
          0,
          Uint8Array.from({ length: 1 + draws.below(4) }, () => draws.below(256)),
        )
    }
  }
  return out
}

const texts = [
  '',
  'storage',
  'cpu',
  '0',
  '1',
  '__proto__',
  'constructor',
  'toString',
  'state_dict',
  'é',
  'x'.repeat(300),
]
const names = [
  'torch._utils\n_rebuild_tensor_v2\n',
  'torch._utils\n_rebuild_tensor_v3\n',
  'torch._utils\n_rebuild_parameter\n',
  'torch._tensor\n_rebuild_from_type_v2\n',
  'torch\nFloatStorage\n',
  'torch\nBoolStorage\n',
  'torch.storage\nUntypedStorage\n',
  'torch\nSize\n',
  'torch\nuint16\n',
  'collections\nOrderedDict\n',
  'collections\ndefaultdict\n',
  'argparse\nNamespace\n',
  'builtins\nset\n',
  '__builtin__\ntuple\n',
  'builtins\nbytearray\n',
  '_codecs\nencode\n',
  'copyreg\n_reconstructor\n',
  'a.b\nC\n',
  'os\nsystem\n',
]
const opcodes = Object.values(OPCODES)

/** The instructions of a pickle, or as many of them as are sound. */
function instructions(bytes: Uint8Array): Uint8Array[] {
  const parts: Uint8Array[] = []
  try {
    for (let at = 0; at < bytes.length;) {
      const instruction = readInstruction(bytes, at)
      if (instruction === INCOMPLETE) break
      parts.push(bytes.slice(at, instruction.next))
      at = instruction.next
    }
  } catch {
    // what was changed before may be no pickle any more
  }
  return parts
}

/** An instruction that is sound by itself. */
function randomInstruction(draws: Draws): Uint8Array {
  const [code, argument] = draws.pick(opcodes)
  if (argument === 'none') return Uint8Array.of(code)
  if (argument === 'lines2') return Buffer.concat([Buffer.of(code), Buffer.from(draws.pick(names))])
  if (typeof argument === 'number') {
    const value = draws.chance(0.5) ? BigInt(draws.below(40)) : draws.pick(numbers)
    return Buffer.concat([Buffer.of(code), littleEndian(value, argument)])
  }
  const data = Buffer.from(draws.pick(texts)).subarray(0, 255)
  const width = argument === 'counted1' ? 1 : argument === 'counted4' ? 4 : 8
  return Buffer.concat([Buffer.of(code), littleEndian(BigInt(data.length), width), data])
}

/** A few changes of whole instructions, so that most of what comes out is a pickle that says something else. */
export function mutatePickle(bytes: Uint8Array, other: Uint8Array, draws: Draws): Uint8Array {
  const parts = instructions(bytes)
  const others = instructions(other)
  for (let n = draws.changes(); n > 0 && parts.length > 0; n--) {
    const at = draws.below(parts.length)
    switch (draws.below(7)) {
      case 0:
        parts.splice(at, 1)
        break
      case 1:
        parts.splice(at, 0, parts[draws.below(parts.length)]!)
        break
      case 2: {
        const to = draws.below(parts.length)
        ;[parts[at], parts[to]] = [parts[to]!, parts[at]!]
        break
      }
      case 3:
        parts.splice(at, 0, randomInstruction(draws))
        break
      case 4:
        parts[at] = randomInstruction(draws)
        break
      case 5: {
        const from = draws.below(Math.max(1, others.length))
        parts.splice(at, draws.below(4), ...others.slice(from, from + draws.below(12)))
        break
      }
      default:
        parts[at] = mutateBytes(parts[at]!, parts[at]!, draws)
    }
  }
  return Buffer.concat(parts)
}
