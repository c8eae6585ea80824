import { join } from 'node:path'
import { VilgError } from '../errors.ts'
import { type SamplingDefaults } from '../sampler/options.ts'
import {
  expectBoolean,
  expectInteger,
  expectNumber,
  expectOneOf,
  expectString,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { checkFile, configText, readJson } from './config-file.ts'

/** What a model can be trained for. */
export const TASKS = Object.freeze(['text-to-image', 'image-to-text', 'visual-question-answering'] as const)
/** One of {@link TASKS}. */
export type Task = (typeof TASKS)[number]

/** What is known of a bundle besides its parts. */
export interface BundleInfo {
  name: string
  /** What it draws and describes, in which language, what it was trained on. */
  description: string
  trainedFor: readonly Task[]
  /** How tokens are drawn unless a call says otherwise. */
  samplingDefaults: Readonly<SamplingDefaults>
}

/** The file that makes a folder a bundle. */
export const BUNDLE_FILE = 'bundle.json'
/** Where a bundle keeps its parts. */
export const BUNDLE_FOLDERS = Object.freeze({
  generator: 'generator',
  imageTokenizer: 'image-tokenizer',
  textTokenizer: 'text-tokenizer',
  matcher: 'matcher',
})
/** The small model that ships with the package, from its root. */
export const SHIPPED_MODEL = 'models/emoji'
const format = 'ernie-vilg-bundle'
const formatVersion = 1

/** Checks what is known of a bundle, and returns a frozen copy. */
export function checkBundleInfo(info: BundleInfo): BundleInfo {
  const { trainedFor, samplingDefaults } = info
  if (!Array.isArray(trainedFor) || trainedFor.length === 0) {
    throw typeMismatch('trainedFor', `a non-empty array of ${TASKS.join(', ')}`, trainedFor)
  }
  if (samplingDefaults === undefined) throw typeMismatch('samplingDefaults', 'an object', samplingDefaults)
  rejectUnknownKeys('samplingDefaults', samplingDefaults, ['temperature', 'topK', 'topP'])
  const { temperature, topK, topP } = samplingDefaults
  const sampling = {
    temperature: expectNumber('samplingDefaults.temperature', temperature, { min: 0, max: 1000 }),
    topK: expectInteger('samplingDefaults.topK', topK, { min: 0, max: 2 ** 24 }),
    topP: expectNumber('samplingDefaults.topP', topP, { min: 0, max: 1 }),
  }
  if (sampling.topP === 0) throw outOfRange('samplingDefaults.topP', 'a number above 0', topP)
  return {
    name: expectString('name', info.name),
    description: expectString('description', info.description),
    trainedFor: Object.freeze(trainedFor.map((task, i) => expectOneOf(`trainedFor[${i}]`, task, TASKS))),
    samplingDefaults: Object.freeze(sampling),
  }
}

/** The text of a bundle's file. */
export function bundleText(
  { name, description, trainedFor, samplingDefaults }: BundleInfo,
  hasMatcher: boolean,
): string {
  const info = { name, description, trainedFor, samplingDefaults }
  return configText({ format, version: formatVersion, ...info, ...(hasMatcher ? { matcher: true } : {}) })
}

/**
 * Reads the file of a bundle; `shipped` where it is the one that comes with the package. The file says whether there is a matcher: the folder of
 * one may be left from an older bundle.
 */
export async function readBundle(
  folder: string,
  shipped: boolean,
): Promise<{ info: BundleInfo; hasMatcher: boolean }> {
  const path = join(folder, BUNDLE_FILE)
  const missing = shipped
    ? `Expected the small model that ships with the package, found no ${path}. Give the folder of a bundle: ErnieVilg.load(folder), or train one: npm run train:emoji in a clone of the repository`
    : `Expected the folder of a bundle, found no ${path}`
  const json = await readJson(path, missing)
  return checkFile(path, () => {
    const { format: kind, version, matcher = false, ...info } = json
    expectOneOf('format', kind, [format])
    if (expectInteger('version', version, { min: 1 }) > formatVersion) {
      const text = `${path}: expected version ${formatVersion} of the format, found ${String(version)}; it needs a newer ernie-vilg`
      throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, { path })
    }
    rejectUnknownKeys('the bundle', info, ['name', 'description', 'trainedFor', 'samplingDefaults'])
    const hasMatcher = expectBoolean('matcher', matcher)
    return { info: checkBundleInfo(info as unknown as BundleInfo), hasMatcher }
  })
}
