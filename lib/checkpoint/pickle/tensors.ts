import { formatError, unsupported } from '../format-error.ts'
import { checkView } from '../stored-tensor.ts'
import { dtypeSize, type TensorDtype } from '../tensor-dtypes.ts'
import { Global, kindOf, type PickleValue, Storage, Tensor, Tuple } from './values.ts'

/** The dtypes of PyTorch by the names of their storages. */
const storageDtypes: Readonly<Record<string, TensorDtype | 'bytes'>> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
  UntypedStorage: 'bytes',
}

/** The dtypes of PyTorch by their own names. */
const torchDtypes: Readonly<Record<string, TensorDtype>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
  uint16: 'U16',
  uint32: 'U32',
  uint64: 'U64',
  bool: 'BOOL',
}

const storageModules: ReadonlySet<string> = new Set(['torch', 'torch.cuda', 'torch.storage'])

/** The storages of one file, by their keys. */
export class StorageTable {
  readonly #byKey = new Map<string, Storage>()

  /** Every storage that the pickle has named, in its order. */
  get storages(): ReadonlyMap<string, Storage> {
    return this.#byKey
  }

  /**
   * What stands for a storage in a pickle of `torch.save`: ('storage', type, key, location, elements), and in files of before 1.6 what it
   * is a view of, which must be nothing. Before 1.6 classes of modules come this way too, with their source: ('module', class, file,
   * source), which is the class.
   *
   * @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED
   */
  readonly load = (id: Tuple): PickleValue => {
    const [kind, type, key, , length, view = null] = id.items
    if (kind === 'module' && type instanceof Global) return type
    if (kind !== 'storage') throw formatError(`Expected the id of a storage, found ${kindOf(kind)}`)
    if (id.items.length < 5 || id.items.length > 6) {
      throw formatError(`Expected a storage of 5 or 6 items, found ${id.items.length}`)
    }
    const dtype = storageDtype(type)
    if (typeof key !== 'string' || !/^\w{1,64}$/.test(key)) {
      throw formatError(`Expected a key of letters and digits for a storage, found ${kindOf(key)}`)
    }
    if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 0) {
      throw formatError(`Expected a length from 0 for storage ${key}, found ${String(length)}`)
    }
    if (!Number.isSafeInteger(length * storageItemSize(dtype))) {
      throw formatError(`Expected storage ${key} to have less than 2^53 bytes, found ${length} elements`)
    }
    if (view !== null) throw unsupported(`Expected storages that are no views of others, found one: ${key}`)
    const known = this.#byKey.get(key)
    if (known === undefined) {
      const storage = new Storage(key, dtype, length)
      this.#byKey.set(key, storage)
      return storage
    }
    if (known.dtype !== dtype || known.length !== length) {
      throw formatError(
        `Expected storage ${key} to be the same everywhere, found ${known.length} x ${known.dtype} and ${length} x ${dtype}`,
      )
    }
    return known
  }
}

/** Bytes of an element of a storage. */
export function storageItemSize(dtype: Storage['dtype']): number {
  return dtype === 'bytes' ? 1 : dtypeSize(dtype)
}

function storageDtype(type: PickleValue | undefined): TensorDtype | 'bytes' {
  if (!(type instanceof Global) || !storageModules.has(type.module)) {
    throw formatError(`Expected the type of a storage, found ${kindOf(type)}`)
  }
  // Object.hasOwn: names come from strangers, and every object has a `constructor`
  if (!Object.hasOwn(storageDtypes, type.name)) {
    throw unsupported(`Expected a storage of numbers that this library reads, found ${type.path}`, {
      name: type.path,
    })
  }
  return storageDtypes[type.name]!
}

type Rebuild = (args: readonly PickleValue[]) => PickleValue

/** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)` and the older `_rebuild_tensor` */
const rebuildTensor: Rebuild = ([storage, offset, size, stride]) => {
  const found = expectStorage(storage)
  if (found.dtype === 'bytes')
    throw formatError('Expected a storage of numbers for a tensor, found one of bytes')
  return makeTensor(found, found.dtype, found.length, offset, size, stride)
}

/** `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)`: of bytes that are given a dtype */
const rebuildTyped: Rebuild = ([storage, offset, size, stride, , , type]) => {
  const found = expectStorage(storage)
  if (!(type instanceof Global) || type.module !== 'torch' || !Object.hasOwn(torchDtypes, type.name)) {
    throw unsupported(`Expected a dtype that this library reads for a tensor, found ${kindOf(type)}`)
  }
  const dtype = torchDtypes[type.name]!
  const bytes = found.length * storageItemSize(found.dtype)
  return makeTensor(found, dtype, Math.floor(bytes / dtypeSize(dtype)), offset, size, stride)
}

/** `_rebuild_parameter(data, requires_grad, hooks)` and `_rebuild_parameter_with_state` */
const rebuildParameter: Rebuild = ([data]) => {
  if (!(data instanceof Tensor)) throw formatError(`Expected a tensor for a parameter, found ${kindOf(data)}`)
  return data
}

/** `_rebuild_from_type_v2(function, type, args, state)`: a tensor of a subclass, or with attributes of its own */
const rebuildFromType: Rebuild = ([callee, , args]) => {
  const rebuild = callee instanceof Global ? plainRebuilds.get(callee.path) : undefined
  if (rebuild === undefined || !(args instanceof Tuple)) {
    throw unsupported(`Expected a dense tensor of a subclass, found one made by ${kindOf(callee)}`)
  }
  return rebuild(args.items)
}

const plainRebuilds: ReadonlyMap<string, Rebuild> = new Map([
  ['torch._utils._rebuild_tensor', rebuildTensor],
  ['torch._utils._rebuild_tensor_v2', rebuildTensor],
  ['torch._utils._rebuild_tensor_v3', rebuildTyped],
  ['torch._utils._rebuild_parameter', rebuildParameter],
  ['torch._utils._rebuild_parameter_with_state', rebuildParameter],
])

/** PyTorch's functions that make tensors, by their names. */
export const rebuildFunctions: readonly (readonly [string, Rebuild])[] = [
  ...plainRebuilds,
  ['torch._tensor._rebuild_from_type_v2', rebuildFromType],
]

function expectStorage(value: PickleValue | undefined): Storage {
  if (value instanceof Storage) return value
  throw formatError(`Expected a storage for a tensor, found ${kindOf(value)}`)
}

function makeTensor(
  storage: Storage,
  dtype: TensorDtype,
  length: number,
  offset: PickleValue | undefined,
  size: PickleValue | undefined,
  stride: PickleValue | undefined,
): Tensor {
  if (!(size instanceof Tuple) || !(stride instanceof Tuple)) {
    throw formatError(
      `Expected tuples for size and stride of a tensor, found ${kindOf(size)} and ${kindOf(stride)}`,
    )
  }
  checkView(size.items, stride.items, offset, length)
  return new Tensor(storage, dtype, size.items as number[], stride.items as number[], offset as number)
}
