import { OPCODES, type Opcode } from '../../../lib/checkpoint/pickle/opcodes.ts'

/** What {@link pickle} writes: the values that Python's pickler knows, made by the functions below where JavaScript lacks them. */
export type Py = null | boolean | number | bigint | string | Uint8Array | Py[] | Made
type Made =
  | { kind: 'tuple'; items: Py[] }
  | { kind: 'dict'; entries: [Py, Py][] }
  | { kind: 'float'; value: number }
  | { kind: 'text'; value: string }
  | { kind: 'global'; module: string; name: string }
  | { kind: 'call'; opcode: 'REDUCE' | 'NEWOBJ'; callee: Py; args: Py; entries: [Py, Py][]; state?: Py }
  | { kind: 'persistent'; id: Py }
  | { kind: 'raw'; bytes: Uint8Array }

export const tuple = (...items: Py[]): Py => ({ kind: 'tuple', items })
export const dict = (entries: Record<string, Py> | [Py, Py][]): Py => ({
  kind: 'dict',
  entries: Array.isArray(entries) ? entries : Object.entries(entries),
})
export const float = (value: number): Py => ({ kind: 'float', value })
/** A string that is an object of its own, not the one that equal strings are. */
export const text = (value: string): Py => ({ kind: 'text', value })
export const global = (module: string, name: string): Py => ({ kind: 'global', module, name })
export const reduce = (callee: Py, args: Py = tuple(), state?: Py, entries: [Py, Py][] = []): Py => ({
  kind: 'call',
  opcode: 'REDUCE',
  callee,
  args,
  entries,
  ...(state === undefined ? {} : { state }),
})
export const newObject = (callee: Py, state?: Py, entries: [Py, Py][] = []): Py => ({
  kind: 'call',
  opcode: 'NEWOBJ',
  callee,
  args: tuple(),
  entries,
  ...(state === undefined ? {} : { state }),
})
export const persistent = (id: Py): Py => ({ kind: 'persistent', id })
/** Opcodes as they are, in place of a value. */
export const raw = (...bytes: (number | string)[]): Py => ({
  kind: 'raw',
  bytes: Buffer.concat(bytes.map((one) => (typeof one === 'number' ? Buffer.of(one) : Buffer.from(one)))),
})
export const orderedDict = (entries: Record<string, Py> | [Py, Py][], state?: Py): Py =>
  reduce(
    global('collections', 'OrderedDict'),
    tuple(),
    state,
    Array.isArray(entries) ? entries : Object.entries(entries),
  )

/** A pickle of protocol 2, as Python's own pickler writes it: byte for byte, where equal strings are one object. */
export function pickle(value: Py): Uint8Array {
  return new Pickler().write(value)
}

class Pickler {
  readonly #parts: Uint8Array[] = []
  readonly #memo = new Map<unknown, number>()

  write(value: Py): Uint8Array {
    this.#op('PROTO', Buffer.of(2))
    this.#save(value)
    this.#op('STOP')
    return Buffer.concat(this.#parts)
  }

  #op(name: Opcode, argument: Uint8Array = new Uint8Array()): void {
    this.#parts.push(Buffer.of(OPCODES[name][0]), argument)
  }

  /** Strings and names by what they say, all else by identity. */
  #key(value: Py): unknown {
    if (typeof value === 'string') return `text ${value}`
    if (isMade(value) && value.kind === 'global') return `global ${value.module} ${value.name}`
    return value
  }

  #memoize(value: Py): void {
    const index = this.#memo.size
    this.#memo.set(this.#key(value), index)
    if (index < 256) this.#op('BINPUT', Buffer.of(index))
    else this.#op('LONG_BINPUT', uint32(index))
  }

  #save(value: Py): void {
    const known = this.#memo.get(this.#key(value))
    if (known !== undefined) {
      if (known < 256) this.#op('BINGET', Buffer.of(known))
      else this.#op('LONG_BINGET', uint32(known))
    } else if (value === null) this.#op('NONE')
    else if (typeof value === 'boolean') this.#op(value ? 'NEWTRUE' : 'NEWFALSE')
    else if (typeof value === 'number' || typeof value === 'bigint') this.#integer(value)
    else if (typeof value === 'string') {
      this.#text(value)
      this.#memoize(value)
    } else if (value instanceof Uint8Array) {
      this.#op('BINBYTES', Buffer.concat([uint32(value.length), value]))
      this.#memoize(value)
    } else if (Array.isArray(value)) {
      this.#op('EMPTY_LIST')
      this.#memoize(value)
      this.#batch(value, 'APPEND', 'APPENDS', 1)
    } else this.#made(value)
  }

  #made(value: Made): void {
    switch (value.kind) {
      case 'float': {
        const bytes = Buffer.alloc(8)
        bytes.writeDoubleBE(value.value)
        this.#op('BINFLOAT', bytes)
        return
      }
      case 'raw':
        this.#parts.push(value.bytes)
        return
      case 'text':
        this.#text(value.value)
        this.#memoize(value)
        return
      case 'global':
        this.#op('GLOBAL', Buffer.from(`${value.module}\n${value.name}\n`))
        this.#memoize(value)
        return
      case 'persistent':
        this.#save(value.id)
        this.#op('BINPERSID')
        return
      case 'dict':
        this.#op('EMPTY_DICT')
        this.#memoize(value)
        this.#batch(value.entries.flat(), 'SETITEM', 'SETITEMS', 2)
        return
      case 'tuple': {
        const { items } = value
        if (items.length === 0) {
          this.#op('EMPTY_TUPLE')
          return
        }
        if (items.length > 3) this.#op('MARK')
        for (const item of items) this.#save(item)
        this.#op(items.length > 3 ? 'TUPLE' : (`TUPLE${items.length}` as Opcode))
        this.#memoize(value)
        return
      }
      case 'call':
        this.#save(value.callee)
        this.#save(value.args)
        this.#op(value.opcode)
        this.#memoize(value)
        this.#batch(value.entries.flat(), 'SETITEM', 'SETITEMS', 2)
        if (value.state !== undefined) {
          this.#save(value.state)
          this.#op('BUILD')
        }
    }
  }

  #batch(values: Py[], one: Opcode, many: Opcode, each: number): void {
    if (values.length === 0) return
    if (values.length > each) this.#op('MARK')
    for (const value of values) this.#save(value)
    this.#op(values.length > each ? many : one)
  }

  #text(value: string): void {
    const bytes = Buffer.from(value)
    this.#op('BINUNICODE', Buffer.concat([uint32(bytes.length), bytes]))
  }

  #integer(value: number | bigint): void {
    const big = BigInt(value)
    if (big >= 0n && big < 256n) this.#op('BININT1', Buffer.of(Number(big)))
    else if (big >= 0n && big < 65536n) {
      const bytes = Buffer.alloc(2)
      bytes.writeUInt16LE(Number(big))
      this.#op('BININT2', bytes)
    } else if (big >= -(2n ** 31n) && big < 2n ** 31n) {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32LE(Number(big))
      this.#op('BININT', bytes)
    } else {
      const bytes: number[] = []
      let length = 1
      while (BigInt.asIntN(8 * length, big) !== big) length++
      for (let i = 0; i < length; i++) bytes.push(Number((big >> BigInt(8 * i)) & 255n))
      this.#op('LONG1', Buffer.from([length, ...bytes]))
    }
  }
}

function isMade(value: Py): value is Made {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array)
  )
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
