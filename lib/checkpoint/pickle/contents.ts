import { formatError, unsupported } from '../format-error.ts'
import type { Json } from '../stored-tensor.ts'
import { Dict, Global, Instance, PickleSet, type PickleValue, Storage, Tensor, Tuple } from './values.ts'

// Recursion follows the pickle's nesting; modules of modules come to some twenty
const maxDepth = 200
// One object may be in many places, so that there are more places than objects
const maxPlaces = 2 ** 20

/** What a pickle says, apart: tensors by their names, and all else as JSON. */
export interface PickleContents {
  tensors: Map<string, Tensor>
  metadata: Json
}

/**
 * Names every tensor in a pickle by the keys, positions and attributes that lead to it, with dots between: `state_dict.encoder.weight`.
 * Parameters, buffers and modules of a pickled `torch.nn.Module` have the names that its state dict gives them. A tensor by itself is
 * `tensor`.
 *
 * Metadata is what is left: dicts of nothing but tensors are not in it, tensors in lists are `{ tensor: name }`, sets and tuples are
 * arrays, whole numbers beyond 2^53 and numbers that JSON lacks are strings, bytes are `{ bytes: length }`, names of classes are
 * `{ stub: name }`, and objects of unknown classes `{ stub, args?, state?, list?, dict? }`.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT for two tensors of one name; ERR_VILG_UNSUPPORTED for nesting of over 200 levels
 */
export function readContents(root: PickleValue): PickleContents {
  const reader = new ContentsReader()
  const metadata = reader.read(root, '')
  return { tensors: reader.tensors, metadata: metadata === undefined ? {} : metadata }
}

class ContentsReader {
  readonly tensors = new Map<string, Tensor>()
  /** What leads to the place that is read, for objects that contain themselves. */
  readonly #path = new Set<PickleValue>()
  #places = 0

  /** The JSON of a value; undefined for one of tensors alone. */
  read(value: PickleValue, name: string): Json | undefined {
    if (++this.#places > maxPlaces) {
      throw unsupported(
        `Expected at most ${maxPlaces} values in a checkpoint, found more (the same ones many times over?)`,
      )
    }
    if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
    if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
    if (typeof value === 'bigint') return String(value)
    if (value instanceof Uint8Array) return { bytes: value.length }
    if (value instanceof Global) return { stub: value.path }
    if (value instanceof Storage) return { stub: 'torch.storage', elements: value.length }
    if (value instanceof Tensor) {
      this.#add(name === '' ? 'tensor' : name, value)
      return undefined
    }
    if (this.#path.has(value)) return { stub: 'circular' }
    if (this.#path.size >= maxDepth) {
      throw unsupported(`Expected nesting of at most ${maxDepth} levels in a checkpoint, found more`)
    }
    this.#path.add(value)
    try {
      return this.#container(value, name)
    } finally {
      this.#path.delete(value)
    }
  }

  #container(value: PickleValue[] | Tuple | PickleSet | Dict | Instance, name: string): Json | undefined {
    if (value instanceof Dict) return this.#dict(value, name)
    if (value instanceof Instance) return this.#instance(value, name)
    const items = Array.isArray(value) ? value : value.items
    return items.map((item, i) => {
      const itemName = join(name, String(i))
      const json = this.read(item, itemName)
      if (json !== undefined) return json
      // something has to keep the place of what is not metadata
      return item instanceof Tensor ? { tensor: itemName } : {}
    })
  }

  #dict(dict: Dict, name: string): Json | undefined {
    const entries: [string, Json][] = []
    for (const [key, value] of dict.entries) {
      const text = keyText(key)
      const json = this.read(value, join(name, text))
      if (json !== undefined) entries.push([text, json])
    }
    // fromEntries defines its keys: `__proto__` is one like any other
    return entries.length > 0 || dict.entries.size === 0 ? Object.fromEntries(entries) : undefined
  }

  #instance(object: Instance, name: string): Json | undefined {
    const state = stateOf(object)
    if (isModule(state)) return this.#module(object, state, name)
    const { global, args, list, dict } = object
    const parts: Record<string, PickleValue> = {}
    if (args.items.length > 0) parts['args'] = args
    if (object.state !== null) parts['state'] = state ?? object.state
    if (list.length > 0) parts['list'] = list
    if (dict.entries.size > 0) parts['dict'] = dict
    const json: Record<string, Json> = { stub: global.path }
    for (const [part, value] of Object.entries(parts)) {
      // attributes have names of their own, so that those of a module within an object are found under theirs
      const read = this.read(value, part === 'state' ? name : join(name, part))
      if (read !== undefined) json[part] = read
    }
    return json
  }

  /** A `torch.nn.Module`: its tensors are named as its state dict names them. */
  #module(object: Instance, state: Dict, name: string): Json {
    const json: Record<string, Json> = { stub: object.global.path }
    const rest: [string, Json][] = []
    for (const [key, value] of state.entries) {
      const nested = moduleParts.has(key as string)
      const text = keyText(key)
      const read = this.read(value, nested ? name : join(name, text))
      if (read !== undefined && !(nested && isEmpty(read))) rest.push([text, read])
    }
    if (rest.length > 0) json['state'] = Object.fromEntries(rest)
    return json
  }

  #add(name: string, tensor: Tensor): void {
    if (this.tensors.has(name)) throw formatError(`Expected each name once, found two tensors called ${name}`)
    this.tensors.set(name, tensor)
  }
}

const moduleParts: ReadonlySet<string> = new Set(['_parameters', '_buffers', '_modules'])

function isModule(state: Dict | undefined): state is Dict {
  return state !== undefined && [...moduleParts].every((part) => state.entries.get(part) instanceof Dict)
}

/** The attributes of an object; Python gives (attributes, slots) for classes with slots, and only one of them is of interest. */
function stateOf({ state }: Instance): Dict | undefined {
  if (state instanceof Dict) return state
  if (!(state instanceof Tuple) || state.items.length !== 2) return undefined
  const dicts = state.items.filter((item) => item instanceof Dict)
  return dicts.length === 1 ? (dicts[0] as Dict) : undefined
}

function isEmpty(json: Json): boolean {
  return typeof json === 'object' && json !== null && Object.keys(json).length === 0
}

function keyText(key: PickleValue): string {
  if (typeof key === 'string') return key
  if (key instanceof Global) return key.path
  if (key instanceof Tuple)
    return `(${key.items.map((item) => (typeof item === 'object' ? '...' : String(item))).join(', ')})`
  return typeof key === 'object' && key !== null ? key.constructor.name : String(key)
}

function join(name: string, key: string): string {
  return name === '' ? key : `${name}.${key}`
}
