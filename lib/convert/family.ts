import type { TensorSource } from '../checkpoint/tensor-source.ts'
import { VilgError } from '../errors.ts'

/** What the user says about a checkpoint beside its weights. */
export interface FamilySettings {
  /** The family's own configuration file, as an object. */
  config: Record<string, unknown> | undefined
  /** Side of the pictures in pixels, where neither weights nor configuration know it. */
  resolution: number | undefined
}

/** How a checkpoint becomes a model folder. */
export interface ConversionPlan {
  /** What becomes `config.json`. */
  config: object
  /** Every tensor of the model, by its name, with where it comes from. */
  tensors: ReadonlyMap<string, TensorOrigin>
  /** What was assumed, for people. */
  notes: string[]
}

/** A tensor of the checkpoint by its name, or rows of some of them, one after the other. */
export type TensorOrigin = string | readonly TensorRows[]

/** Rows of a tensor: along its first dimension, from `first` up to and without `end`. */
export interface TensorRows {
  name: string
  first: number
  end: number
}

/** A family of public checkpoints: how its files are known, and what they become. */
export interface Family {
  /** What people call it. */
  title: string
  /**
   * What comes before the family's own names, for each model of the family in the file; none where there is no such model. `state_dict.`
   * is that of Lightning's checkpoints.
   */
  prefixes(source: TensorSource): string[]
  /** @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE where weights are missing, or fit neither each other nor the configuration */
  plan(source: TensorSource, prefix: string, settings: FamilySettings): ConversionPlan
}

/** An `ERR_VILG_CHECKPOINT_INCOMPATIBLE` about a checkpoint. */
export function incompatible(source: TensorSource, message: string, details: object = {}): VilgError {
  return new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', `${source.path}: ${message}`, {
    path: source.path,
    ...details,
  })
}

/** The prefixes of all tensors whose names end as given, in the order of the file. */
export function prefixesOf(source: TensorSource, endings: readonly string[]): string[] {
  const found = source.names.flatMap((name) => {
    const ending = endings.find((one) => name === one || name.endsWith(`.${one}`))
    return ending === undefined ? [] : [name.slice(0, name.length - ending.length)]
  })
  return [...new Set(found)]
}

/**
 * The shape of a tensor that must be there.
 *
 * @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE where it is not, or has another number of dimensions
 */
export function shapeOf(source: TensorSource, name: string, rank: number): readonly number[] {
  const found = source.tensors.get(name)?.shape
  if (found === undefined) {
    throw incompatible(source, `expected a tensor ${name}, found none`, { missing: [name] })
  }
  if (found.length !== rank) {
    const text = `tensor ${name}: expected ${rank} dimensions, found [${found.join(', ')}]`
    throw incompatible(source, text, { tensor: name, found })
  }
  return found
}

/** Runs `check` on sizes that a file has: those that this library cannot have are the file's fault, and not the caller's. */
export function checkedSizes<T>(source: TensorSource, check: () => T): T {
  try {
    return check()
  } catch (cause) {
    if (!(cause instanceof VilgError) || cause.code !== 'ERR_VILG_INVALID_ARGUMENT') throw cause
    throw incompatible(source, cause.message)
  }
}

const shownAtMost = 5

/** Names for an error: the first few, and how many more. */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, shownAtMost).join(', ')
  return names.length > shownAtMost ? `${shown} and ${names.length - shownAtMost} more` : shown
}

/**
 * The tensors that a model needs, all of which the checkpoint must have in just these shapes.
 *
 * @throws ERR_VILG_CHECKPOINT_INCOMPATIBLE naming those that are missing (`details.missing`) or of other shapes
 */
export function requireTensors(
  source: TensorSource,
  prefix: string,
  needed: ReadonlyMap<string, readonly number[]>,
): Map<string, string> {
  const missing = [...needed.keys()].filter((name) => !source.tensors.has(prefix + name))
  if (missing.length > 0) {
    const text = `expected ${needed.size} tensors under "${prefix}", found ${missing.length} of them missing: ${listed(missing)}`
    throw incompatible(source, text, { missing })
  }
  for (const [name, shape] of needed) {
    const found = source.tensors.get(prefix + name)!.shape
    if (found.length === shape.length && found.every((dim, i) => dim === shape[i])) continue
    const text = `tensor ${prefix}${name}: expected shape [${shape.join(', ')}], as the others have it, found [${found.join(', ')}]`
    throw incompatible(source, text, { tensor: prefix + name, expected: shape, found })
  }
  return new Map([...needed.keys()].map((name) => [name, prefix + name]))
}
