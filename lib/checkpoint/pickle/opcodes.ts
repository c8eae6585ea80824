import { formatError, unsupported } from '../format-error.ts'

/** What follows an opcode: nothing, a number of bytes, bytes after their count, or lines that end in a newline. */
type Argument = 'none' | 1 | 2 | 4 | 8 | 'counted1' | 'counted4' | 'counted8' | 'lines2'

/**
 * The opcodes of pickle's binary protocols (2 to 5, PEP 307, 3154 and 574) that this library knows, with the length of what follows.
 * Those of the text protocol, extension codes and out-of-band buffers are not among them: no file of `torch.save` has them.
 */
export const OPCODES = Object.freeze({
  MARK: [0x28, 'none'],
  EMPTY_TUPLE: [0x29, 'none'],
  STOP: [0x2e, 'none'],
  POP: [0x30, 'none'],
  POP_MARK: [0x31, 'none'],
  DUP: [0x32, 'none'],
  BINBYTES: [0x42, 'counted4'],
  SHORT_BINBYTES: [0x43, 'counted1'],
  BINFLOAT: [0x47, 8],
  BININT: [0x4a, 4],
  BININT1: [0x4b, 1],
  BININT2: [0x4d, 2],
  NONE: [0x4e, 'none'],
  BINPERSID: [0x51, 'none'],
  REDUCE: [0x52, 'none'],
  BINSTRING: [0x54, 'counted4'],
  SHORT_BINSTRING: [0x55, 'counted1'],
  BINUNICODE: [0x58, 'counted4'],
  EMPTY_LIST: [0x5d, 'none'],
  APPEND: [0x61, 'none'],
  BUILD: [0x62, 'none'],
  GLOBAL: [0x63, 'lines2'],
  DICT: [0x64, 'none'],
  APPENDS: [0x65, 'none'],
  BINGET: [0x68, 1],
  LONG_BINGET: [0x6a, 4],
  LIST: [0x6c, 'none'],
  BINPUT: [0x71, 1],
  LONG_BINPUT: [0x72, 4],
  SETITEM: [0x73, 'none'],
  TUPLE: [0x74, 'none'],
  SETITEMS: [0x75, 'none'],
  EMPTY_DICT: [0x7d, 'none'],
  PROTO: [0x80, 1],
  NEWOBJ: [0x81, 'none'],
  TUPLE1: [0x85, 'none'],
  TUPLE2: [0x86, 'none'],
  TUPLE3: [0x87, 'none'],
  NEWTRUE: [0x88, 'none'],
  NEWFALSE: [0x89, 'none'],
  LONG1: [0x8a, 'counted1'],
  LONG4: [0x8b, 'counted4'],
  SHORT_BINUNICODE: [0x8c, 'counted1'],
  BINUNICODE8: [0x8d, 'counted8'],
  BINBYTES8: [0x8e, 'counted8'],
  EMPTY_SET: [0x8f, 'none'],
  ADDITEMS: [0x90, 'none'],
  FROZENSET: [0x91, 'none'],
  NEWOBJ_EX: [0x92, 'none'],
  STACK_GLOBAL: [0x93, 'none'],
  MEMOIZE: [0x94, 'none'],
  FRAME: [0x95, 8],
  BYTEARRAY8: [0x96, 'counted8'],
} as const satisfies Record<string, readonly [code: number, argument: Argument]>)

/** The name of an opcode. */
export type Opcode = keyof typeof OPCODES

const byCode: ({ name: Opcode; argument: Argument } | undefined)[] = []
for (const [name, [code, argument]] of Object.entries(OPCODES)) {
  byCode[code] = { name: name as Opcode, argument }
}

/** An opcode within its bytes. */
export interface Instruction {
  name: Opcode
  /** Where its argument lies, without the count or the newlines of lines. */
  begin: number
  end: number
  /** Where the next opcode begins. */
  next: number
}

/** Why an instruction could not be read: the bytes end before it does. */
export const INCOMPLETE = Symbol('incomplete')

/**
 * The instruction at a position, or {@link INCOMPLETE} where the bytes end within it.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED for opcodes that are none, or none of the binary protocols
 */
export function readInstruction(bytes: Uint8Array, at: number): Instruction | typeof INCOMPLETE {
  const code = bytes[at]
  if (code === undefined) return INCOMPLETE
  const known = byCode[code]
  if (known === undefined) throw unknownOpcode(code, at)
  const { name, argument } = known
  let begin = at + 1
  let end = begin
  let next: number | undefined
  if (typeof argument === 'number') {
    end = begin + argument
  } else if (argument === 'lines2') {
    const first = bytes.indexOf(newline, begin)
    const second = first < 0 ? -1 : bytes.indexOf(newline, first + 1)
    if (second < 0) return INCOMPLETE
    end = second
    next = second + 1
  } else if (argument !== 'none') {
    const width = argument === 'counted1' ? 1 : argument === 'counted4' ? 4 : 8
    if (begin + width > bytes.length) return INCOMPLETE
    const count = readUnsigned(bytes, begin, width)
    begin += width
    end = begin + count
  }
  if (end > bytes.length) return INCOMPLETE
  return { name, begin, end, next: next ?? end }
}

const newline = 0x0a

/** A little-endian unsigned number of up to 8 bytes; rounded beyond 2^53. */
export function readUnsigned(bytes: Uint8Array, at: number, width: number): number {
  let value = 0
  for (let i = width - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!
  return value
}

function unknownOpcode(code: number, at: number): Error {
  const shown = `0x${code.toString(16).padStart(2, '0')}`
  const text = refusedOpcodes[code]
  return text === undefined
    ? formatError(`Expected a pickle, found the byte ${shown} in place of an opcode at ${at}`)
    : unsupported(`Expected a pickle of protocol 2 to 5 as torch.save writes it, found ${text} at ${at}`)
}

const refusedOpcodes: Record<number, string> = {
  0x46: 'FLOAT of the text protocol',
  0x49: 'INT of the text protocol',
  0x4c: 'LONG of the text protocol',
  0x50: 'PERSID of the text protocol',
  0x53: 'STRING of the text protocol',
  0x56: 'UNICODE of the text protocol',
  0x67: 'GET of the text protocol',
  0x69: 'INST of the text protocol',
  0x6f: 'OBJ of protocol 1',
  0x70: 'PUT of the text protocol',
  0x82: 'an extension code (EXT1)',
  0x83: 'an extension code (EXT2)',
  0x84: 'an extension code (EXT4)',
  0x97: 'an out-of-band buffer (NEXT_BUFFER)',
  0x98: 'an out-of-band buffer (READONLY_BUFFER)',
}

/**
 * Where the pickle that begins at `begin` ends, without looking at what it says; {@link INCOMPLETE} where the bytes end before it.
 *
 * @throws see {@link readInstruction}
 */
export function pickleEnd(bytes: Uint8Array, begin: number): number | typeof INCOMPLETE {
  for (let at = begin; ;) {
    const instruction = readInstruction(bytes, at)
    if (instruction === INCOMPLETE) return INCOMPLETE
    if (instruction.name === 'STOP') return instruction.next
    at = instruction.next
  }
}
