import { formatError, unsupported } from '../format-error.ts'
import { callGlobal, checkGlobal } from './globals.ts'
import { INCOMPLETE, type Instruction, readInstruction, readUnsigned } from './opcodes.ts'
import { PickleStack } from './stack.ts'
import { integer, latin1, utf8 } from './text.ts'
import { Dict, Global, Instance, kindOf, PickleSet, type PickleValue, Tensor, Tuple } from './values.ts'

/** A pickle of any real checkpoint is a few megabytes at most: tensors are not in it. */
export const maxPickleBytes = 2 ** 26

// Steps are instructions, elements copied, and objects by the memory that they take; real checkpoints need some hundred thousand
const maxSteps = 2 ** 24
const containerSteps = 32
const stringSteps = 4
const maxIntegerBytes = 256

/** How the object of a persistent id is found: what `torch.save` writes in place of a storage. */
export type PersistentLoad = (id: Tuple) => PickleValue

/**
 * Reads a pickle without running anything: names of classes and functions are kept as names, and only the few of {@link callGlobal} have
 * a meaning. Time and memory are bounded by a number of steps, not by what the file says.
 *
 * @param bytes from the first opcode on; what follows STOP is not looked at
 * @throws ERR_VILG_CHECKPOINT_FORMAT for what is no pickle; ERR_VILG_UNSUPPORTED for names that are refused and opcodes that are not read
 */
export function unpickle(bytes: Uint8Array, persistentLoad: PersistentLoad): PickleValue {
  if (bytes.length > maxPickleBytes) {
    throw unsupported(`Expected a pickle of at most ${maxPickleBytes} bytes, found ${bytes.length}`)
  }
  return new Machine(bytes, persistentLoad).run()
}

class Machine {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #persistentLoad: PersistentLoad
  readonly #memo = new Map<number, PickleValue>()
  readonly #stack = new PickleStack()
  #steps = 0

  constructor(bytes: Uint8Array, persistentLoad: PersistentLoad) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#persistentLoad = persistentLoad
  }

  run(): PickleValue {
    for (let at = 0; ;) {
      const instruction = readInstruction(this.#bytes, at)
      if (instruction === INCOMPLETE)
        throw formatError('Expected a pickle that ends with STOP, found its end before')
      this.#spend(1)
      if (instruction.name === 'STOP') break
      this.#step(instruction)
      at = instruction.next
    }
    const result = this.#stack.pop()
    if (!this.#stack.empty) {
      throw formatError('Expected a pickle of one object, found more on its stack')
    }
    return result
  }

  #step({ name, begin, end }: Instruction): void {
    switch (name) {
      case 'PROTO':
        if (this.#bytes[begin]! > 5)
          throw unsupported(`Expected a pickle of protocol 2 to 5, found ${this.#bytes[begin]}`)
        return
      case 'FRAME': // says how much may be read ahead, which is all here
        return
      case 'MARK':
        this.#stack.mark()
        return
      case 'POP':
        this.#stack.pop()
        return
      case 'POP_MARK':
        this.#stack.popToMark()
        return
      case 'DUP':
        this.#stack.push(this.#stack.top())
        return
      case 'NONE':
        this.#stack.push(null)
        return
      case 'NEWTRUE':
        this.#stack.push(true)
        return
      case 'NEWFALSE':
        this.#stack.push(false)
        return
      case 'BININT':
        this.#stack.push(this.#view.getInt32(begin, true))
        return
      case 'BININT1':
      case 'BININT2':
        this.#stack.push(readUnsigned(this.#bytes, begin, end - begin))
        return
      case 'LONG1':
      case 'LONG4':
        this.#pushInteger(begin, end)
        return
      case 'BINFLOAT':
        this.#stack.push(this.#view.getFloat64(begin, false))
        return
      case 'BINSTRING':
      case 'SHORT_BINSTRING':
        this.#pushString(begin, end, latin1)
        return
      case 'BINUNICODE':
      case 'BINUNICODE8':
      case 'SHORT_BINUNICODE':
        this.#pushString(begin, end, utf8)
        return
      case 'BINBYTES':
      case 'BINBYTES8':
      case 'SHORT_BINBYTES':
      case 'BYTEARRAY8':
        this.#pushNew(this.#bytes.subarray(begin, end))
        return
      case 'EMPTY_LIST':
        this.#pushNew([])
        return
      case 'EMPTY_TUPLE':
        this.#pushNew(new Tuple([]))
        return
      case 'EMPTY_DICT':
        this.#pushNew(new Dict())
        return
      case 'EMPTY_SET':
        this.#pushNew(new PickleSet([]))
        return
      case 'LIST':
        this.#pushNew(this.#stack.popToMark())
        return
      case 'TUPLE':
        this.#pushNew(new Tuple(this.#stack.popToMark()))
        return
      case 'FROZENSET':
        this.#pushNew(new PickleSet(this.#stack.popToMark()))
        return
      case 'TUPLE1':
      case 'TUPLE2':
      case 'TUPLE3':
        this.#pushNew(new Tuple(this.#stack.popCount(Number(name.at(-1)))))
        return
      case 'DICT': {
        const items = this.#stack.popToMark()
        const dict = new Dict()
        setItems(dict, items)
        this.#pushNew(dict)
        return
      }
      case 'APPEND':
        append(this.#stack.top(1), [this.#stack.pop()])
        return
      case 'APPENDS': {
        const items = this.#stack.popToMark()
        append(this.#stack.top(), items)
        return
      }
      case 'ADDITEMS': {
        const items = this.#stack.popToMark()
        const set = this.#stack.top()
        if (!(set instanceof PickleSet)) throw misplaced(name, 'a set', set)
        addAll(set.items, items)
        return
      }
      case 'SETITEM': {
        const items = this.#stack.popCount(2)
        setItems(this.#stack.top(), items)
        return
      }
      case 'SETITEMS': {
        const items = this.#stack.popToMark()
        setItems(this.#stack.top(), items)
        return
      }
      case 'BINPUT':
      case 'LONG_BINPUT':
        this.#memo.set(readUnsigned(this.#bytes, begin, end - begin), this.#stack.top())
        return
      case 'MEMOIZE':
        this.#memo.set(this.#memo.size, this.#stack.top())
        return
      case 'BINGET':
      case 'LONG_BINGET':
        this.#stack.push(this.#recall(readUnsigned(this.#bytes, begin, end - begin)))
        return
      case 'GLOBAL': {
        const newline = this.#bytes.indexOf(0x0a, begin)
        this.#pushGlobal(
          utf8(this.#bytes.subarray(begin, newline)),
          utf8(this.#bytes.subarray(newline + 1, end)),
        )
        return
      }
      case 'STACK_GLOBAL': {
        const [module, attribute] = this.#stack.popCount(2)
        if (typeof module !== 'string') throw misplaced(name, 'the name of a module', module)
        if (typeof attribute !== 'string') throw misplaced(name, 'the name of a class', attribute)
        this.#pushGlobal(module, attribute)
        return
      }
      case 'REDUCE':
      case 'NEWOBJ': {
        const [callee, args] = this.#stack.popCount(2)
        this.#pushNew(this.#call(name, callee, args))
        return
      }
      case 'NEWOBJ_EX': {
        const [callee, args, named] = this.#stack.popCount(3)
        if (!(named instanceof Dict)) throw misplaced(name, 'a dict of named arguments', named)
        if (!(args instanceof Tuple)) throw misplaced(name, 'a tuple of arguments', args)
        this.#spend(args.items.length)
        // as one more argument: what has a meaning here takes none by name
        const all = named.entries.size === 0 ? args : new Tuple([...args.items, named])
        this.#pushNew(this.#call(name, callee, all))
        return
      }
      case 'BUILD': {
        const state = this.#stack.pop()
        this.#build(this.#stack.top(), state)
        return
      }
      case 'BINPERSID': {
        const id = this.#stack.pop()
        if (!(id instanceof Tuple)) throw misplaced(name, 'a tuple', id)
        this.#pushNew(this.#persistentLoad(id))
        return
      }
      case 'STOP':
        return
    }
  }

  #spend(steps: number): void {
    this.#steps += steps
    if (this.#steps > maxSteps) {
      throw unsupported(
        `Expected a pickle of at most ${maxSteps} steps, far more than any known checkpoint needs, found one that goes on (a memory bomb?)`,
      )
    }
  }

  #pushNew(value: PickleValue): void {
    this.#spend(containerSteps)
    this.#stack.push(value)
  }

  #pushString(begin: number, end: number, decode: (bytes: Uint8Array) => string): void {
    this.#spend(stringSteps)
    this.#stack.push(decode(this.#bytes.subarray(begin, end)))
  }

  #pushGlobal(module: string, name: string): void {
    const global = new Global(module, name)
    checkGlobal(global)
    this.#pushNew(global)
  }

  #recall(index: number): PickleValue {
    const value = this.#memo.get(index)
    if (value === undefined)
      throw formatError(`Expected an object numbered ${index} before it is referred to, found none`)
    return value
  }

  #pushInteger(begin: number, end: number): void {
    if (end - begin > maxIntegerBytes) {
      throw formatError(`Expected an integer of at most ${maxIntegerBytes} bytes, found ${end - begin}`)
    }
    this.#spend(end - begin)
    this.#stack.push(integer(this.#bytes.subarray(begin, end)))
  }

  #call(opcode: string, callee: PickleValue | undefined, args: PickleValue | undefined): PickleValue {
    if (!(callee instanceof Global)) throw misplaced(opcode, 'the name of a class or function', callee)
    if (!(args instanceof Tuple)) throw misplaced(opcode, 'a tuple of arguments', args)
    return callGlobal(callee, args, (steps) => this.#spend(steps))
  }

  #build(target: PickleValue, state: PickleValue): void {
    if (target instanceof Instance) {
      target.state = state
    } else if (target instanceof Dict) {
      // attributes of a dict are of its class (OrderedDict's _metadata), not of the weights
      if (!target.attributes) return
      if (!(state instanceof Dict)) throw misplaced('BUILD', 'a dict of attributes', state)
      this.#spend(state.entries.size)
      for (const [key, value] of state.entries) target.entries.set(key, value)
    } else if (!(target instanceof Tensor)) {
      // a tensor's attributes, like those of a dict, are not read
      throw misplaced('BUILD', 'an object', target)
    }
  }
}

function append(target: PickleValue, items: readonly PickleValue[]): void {
  if (Array.isArray(target)) addAll(target, items)
  else if (target instanceof Instance) addAll(target.list, items)
  else throw misplaced('APPENDS', 'a list', target)
}

// not push(...items): a call takes some ten thousand arguments only
function addAll(target: PickleValue[], items: readonly PickleValue[]): void {
  for (const item of items) target.push(item)
}

function setItems(target: PickleValue, items: readonly PickleValue[]): void {
  const dict = target instanceof Instance ? target.dict : target
  if (!(dict instanceof Dict)) throw misplaced('SETITEMS', 'a dict', target)
  if (items.length % 2 !== 0)
    throw formatError('Expected keys and values for a dict, found a key without value')
  for (let i = 0; i < items.length; i += 2) dict.entries.set(items[i]!, items[i + 1]!)
}

function misplaced(opcode: string, expected: string, found: PickleValue | undefined): Error {
  return formatError(`Expected ${expected} for ${opcode} of the pickle, found ${kindOf(found)}`)
}
