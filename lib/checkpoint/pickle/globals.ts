import { describeValue } from '../../validate.ts'
import { formatError, unsupported } from '../format-error.ts'
import { rebuildFunctions } from './tensors.ts'
import { Dict, Global, Instance, kindOf, PickleSet, type PickleValue, Tensor, Tuple } from './values.ts'

/** Counts work that is not an instruction, such as elements that are copied. */
export type Spend = (steps: number) => void
type Meaning = (args: readonly PickleValue[], spend: Spend, global: Global) => PickleValue

const longestName = 512

// Modules of which no checkpoint needs anything, and pickles that do harm do
const refusedModules: ReadonlySet<string> = new Set([
  'os',
  'posix',
  'nt',
  'subprocess',
  'sys',
  'importlib',
  'runpy',
  'shutil',
  'socket',
  'ctypes',
  'pickle',
  '_pickle',
  'cPickle',
  'marshal',
  'code',
  'codeop',
  'commands',
  'pty',
  'platform',
  'timeit',
  'pdb',
  'webbrowser',
  'pip',
  'setuptools',
])
// Of Python's builtins, those that are types or constants: all others (eval, exec, getattr, open ...) are refused
const builtinModules: ReadonlySet<string> = new Set(['builtins', '__builtin__'])
const harmlessBuiltins: ReadonlySet<string> = new Set([
  'bool',
  'bytearray',
  'bytes',
  'complex',
  'dict',
  'Ellipsis',
  'float',
  'frozenset',
  'int',
  'list',
  'long',
  'NotImplemented',
  'object',
  'range',
  'set',
  'slice',
  'str',
  'tuple',
  'unicode',
  'xrange',
])

/**
 * Refuses names of what runs code or reaches out of the process. Nothing that is named is ever run, whatever its name; this tells users
 * what kind of file they have.
 *
 * @throws ERR_VILG_UNSUPPORTED with the name; ERR_VILG_CHECKPOINT_FORMAT for what is no name
 */
export function checkGlobal(global: Global): void {
  const { module, name, path } = global
  if (module === '' || name === '' || path.length > longestName || /[\p{Cc}\s]/u.test(path)) {
    throw formatError(`Expected the name of a class or function in a pickle, found ${describeValue(path)}`)
  }
  const refused = builtinModules.has(module)
    ? !harmlessBuiltins.has(name)
    : refusedModules.has(module.split('.')[0]!)
  if (!refused) return
  throw unsupported(
    `Expected a pickle of tensors and plain values, found the name ${path}, by which a file can run code where Python loads it. ` +
      'Nothing was run. Do not load this file by other programs',
    { name: path },
  )
}

/**
 * What a call gives: containers, tensors, sizes and bytes for the functions that mean those, and for all others an {@link Instance} that
 * says what would have been called.
 *
 * @throws ERR_VILG_CHECKPOINT_FORMAT for arguments that do not fit; ERR_VILG_UNSUPPORTED for tensors of kinds that are not read
 */
export function callGlobal(global: Global, args: Tuple, spend: Spend): PickleValue {
  const meaning = meanings.get(global.path)
  if (meaning !== undefined) return meaning(args.items, spend, global)
  // a tensor that would be missing later, and nobody would know why
  if (global.module === 'torch._utils' && global.name.startsWith('_rebuild')) {
    throw unsupported(`Expected tensors that are dense, found one made by ${global.path}`, {
      name: global.path,
    })
  }
  if (global.path === 'torch.storage._load_from_bytes') {
    throw unsupported(
      'Expected a file of torch.save, found tensors that were pickled without it; save it again with torch.save',
    )
  }
  return new Instance(global, args)
}

/** The elements of the one argument of a container's constructor; none where it has no argument. */
function elements(args: readonly PickleValue[], spend: Spend): readonly PickleValue[] {
  const [given, ...more] = args
  if (more.length > 0) throw formatError(`Expected one argument for a container, found ${args.length}`)
  if (given === undefined) return []
  const items = given instanceof Tuple || given instanceof PickleSet ? given.items : given
  if (!Array.isArray(items)) throw formatError(`Expected a list for a container, found ${kindOf(given)}`)
  spend(items.length)
  return items as readonly PickleValue[]
}

function dictOf(dict: Dict, args: readonly PickleValue[], spend: Spend): Dict {
  if (args.length === 1 && args[0] instanceof Dict) {
    spend(args[0].entries.size)
    for (const [key, value] of args[0].entries) dict.entries.set(key, value)
    return dict
  }
  for (const pair of elements(args, spend)) {
    const items = pair instanceof Tuple ? pair.items : pair
    if (!Array.isArray(items) || items.length !== 2) {
      throw formatError(`Expected pairs for a dict, found ${kindOf(pair)}`)
    }
    dict.entries.set(items[0] as PickleValue, items[1] as PickleValue)
  }
  return dict
}

const toDict: Meaning = (args, spend) => dictOf(new Dict(), args, spend)
const toSet: Meaning = (args, spend) => new PickleSet([...elements(args, spend)])

/** `_codecs.encode(text, encoding)`: how Python 3 writes bytes in protocol 2. */
const encode: Meaning = ([text, encoding], spend) => {
  if (typeof text !== 'string' || encoding !== 'latin1') {
    throw formatError(`Expected text and 'latin1' for bytes, found ${kindOf(text)} and ${kindOf(encoding)}`)
  }
  spend(text.length)
  return new Uint8Array(Buffer.from(text, 'latin1'))
}

const toBytes: Meaning = (args, spend, global) => {
  const [given] = args
  if (given === undefined) return new Uint8Array(0)
  if (given instanceof Uint8Array && args.length === 1) return given
  if (typeof given === 'string') return encode(args, spend, global)
  throw formatError(`Expected bytes for a bytearray, found ${kindOf(given)}`)
}

/** `copyreg._reconstructor(class, base, state)`: how objects are made in protocols before 2, and by some classes still. */
const reconstruct: Meaning = ([made, ...rest]) => {
  if (!(made instanceof Global)) throw formatError(`Expected a class to reconstruct, found ${kindOf(made)}`)
  return new Instance(made, new Tuple(rest))
}

/** `torch.nn.parameter.Parameter(tensor)`, which is that tensor here. */
const parameter: Meaning = (args, _, global) =>
  args[0] instanceof Tensor ? args[0] : new Instance(global, new Tuple(args))

const dictSubclasses = [
  'collections.OrderedDict',
  'collections.Counter',
  'builtins.dict',
  '__builtin__.dict',
  'pytorch_lightning.utilities.parsing.AttributeDict',
  'lightning.pytorch.utilities.parsing.AttributeDict',
  'lightning_fabric.utilities.data.AttributeDict',
  'lightning.fabric.utilities.data.AttributeDict',
]

const meanings: ReadonlyMap<string, Meaning> = new Map<string, Meaning>([
  ...dictSubclasses.map((path): [string, Meaning] => [path, toDict]),
  // its first argument makes default values, which nobody asks for here
  ['collections.defaultdict', (args, spend) => dictOf(new Dict(), args.slice(1), spend)],
  ['argparse.Namespace', (args, spend) => dictOf(new Dict(true), args, spend)],
  ...['builtins.', '__builtin__.'].flatMap((module): [string, Meaning][] => [
    [`${module}set`, toSet],
    [`${module}frozenset`, toSet],
    [`${module}list`, (args, spend) => [...elements(args, spend)]],
    [`${module}tuple`, (args, spend) => new Tuple([...elements(args, spend)])],
    [`${module}bytearray`, toBytes],
    [`${module}bytes`, toBytes],
  ]),
  ['torch.Size', (args, spend) => new Tuple([...elements(args, spend)])],
  ['_codecs.encode', encode],
  ['copyreg._reconstructor', reconstruct],
  ['copy_reg._reconstructor', reconstruct],
  ['torch.nn.parameter.Parameter', parameter],
  ...rebuildFunctions,
])
