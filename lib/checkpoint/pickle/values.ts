import type { TensorDtype } from '../tensor-dtypes.ts'

/** What a pickle may hold: Python's plain values, containers, tensors, and stand-ins for everything else. Lists are arrays. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Tuple
  | PickleSet
  | Dict
  | Global
  | Instance
  | Storage
  | Tensor

/** A tuple. */
export class Tuple {
  readonly items: readonly PickleValue[]
  constructor(items: readonly PickleValue[]) {
    this.items = items
  }
}

/** A set or frozenset. Members may come twice: nobody asks it for membership. */
export class PickleSet {
  readonly items: PickleValue[]
  constructor(items: PickleValue[]) {
    this.items = items
  }
}

/** A dict or one of its harmless subclasses. */
export class Dict {
  /** Keys that are containers are told apart by identity. */
  readonly entries = new Map<PickleValue, PickleValue>()
  /** Whether its attributes are its entries, as those of argparse.Namespace are. */
  readonly attributes: boolean
  constructor(attributes = false) {
    this.attributes = attributes
  }
}

/** The name of a class or function; nothing that could be called. */
export class Global {
  readonly module: string
  readonly name: string
  constructor(module: string, name: string) {
    this.module = module
    this.name = name
  }
  get path(): string {
    return `${this.module}.${this.name}`
  }
}

/** What would be an object of an unknown class, or the result of an unknown function: what was said about it, and nothing done. */
export class Instance {
  readonly global: Global
  readonly args: Tuple
  /** What BUILD would have given to it. */
  state: PickleValue = null
  /** Where the object is a list or a dict. */
  readonly list: PickleValue[] = []
  readonly dict = new Dict()
  constructor(global: Global, args: Tuple) {
    this.global = global
    this.args = args
  }
}

/** Memory that tensors are views of; its bytes lie elsewhere in the file. */
export class Storage {
  readonly key: string
  readonly dtype: TensorDtype | 'bytes'
  /** Elements of the dtype, bytes where it has none. */
  readonly length: number
  constructor(key: string, dtype: TensorDtype | 'bytes', length: number) {
    this.key = key
    this.dtype = dtype
    this.length = length
  }
}

/** A view of a storage that has been checked against the length which the storage is said to have. */
export class Tensor {
  readonly storage: Storage
  readonly dtype: TensorDtype
  readonly shape: readonly number[]
  readonly strides: readonly number[]
  readonly offset: number
  constructor(
    storage: Storage,
    dtype: TensorDtype,
    shape: readonly number[],
    strides: readonly number[],
    offset: number,
  ) {
    this.storage = storage
    this.dtype = dtype
    this.shape = shape
    this.strides = strides
    this.offset = offset
  }
}

/** What a value is called in errors. */
export function kindOf(value: PickleValue | undefined): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'None'
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Uint8Array) return 'bytes'
  if (value instanceof Tuple) return 'a tuple'
  if (value instanceof PickleSet) return 'a set'
  if (value instanceof Dict) return 'a dict'
  if (value instanceof Global) return `the name ${value.path}`
  if (value instanceof Instance) return `an object of ${value.global.path}`
  if (value instanceof Storage) return 'a storage'
  if (value instanceof Tensor) return 'a tensor'
  return typeof value === 'string' ? 'a string' : typeof value === 'boolean' ? 'a bool' : 'a number'
}
