import type { ImageInput } from '../data/image.ts'
import {
  expectBoolean,
  expectInteger,
  expectOneOf,
  expectString,
  outOfRange,
  rejectUnknownKeys,
  typeMismatch,
} from '../validate.ts'
import { VilgError } from '../errors.ts'
import {
  type Criterion,
  type Protocol,
  PROTOCOL_NAMES,
  type ProtocolName,
  PROTOCOLS,
  STUDY_LANGUAGES,
  type StudyLanguage,
} from './protocols.ts'

/** What was given to all systems, and what each made of it. */
export interface StudyItem {
  /** Tells the item from the others; its number from 1 on unless given. Raters do not see it. */
  id?: string
  /** The text to draw: `text-to-image` and `pairwise`. */
  text?: string
  /** The picture to describe or ask about: `caption` and `vqa`. */
  image?: ImageInput
  /** The question: `vqa`. */
  question?: string
  /** What the results are also broken down by, such as an id of {@link PROMPT_ANGLES}. */
  angle?: string
  /** By the name of the system: the picture or the text it answered with. */
  responses: Readonly<Record<string, ImageInput | string>>
}

/** Where the making of a study is. */
export interface StudyProgress {
  /** The share of all pictures that are read, in (0, 1]. */
  fraction: number
}

/** Options of {@link createStudy}. */
export interface CreateStudyOptions {
  protocol: ProtocolName
  /** All with responses of the same systems. */
  items: readonly StudyItem[]
  /** File of the page; `.html`. */
  page: string
  /** File of the key, which tells what is behind the ids of the page: not for raters. */
  key: string
  /** That raters see; that of the protocol unless given. */
  title?: string
  /** Shown before the first unit, lines as paragraphs; a text of the page's own unless given. */
  instructions?: string
  /** Ids of the protocol's criteria to ask for; all unless given. */
  criteria?: readonly string[]
  /** Of pairs: the system that all others are compared with; each with each unless given. */
  against?: string
  /** That the page begins in, `en` unless given; raters can change it. */
  language?: StudyLanguage
  /** Decides ids and orders, an integer from 0 to 2^53 - 1; random unless given. Who knows it can tell responses of one system. */
  seed?: number
  /** Makes judged pictures square, of this side in pixels, so that their sizes tell nothing; left as they are unless given. */
  imageSize?: number
  /** Replaces files that are there, which is an error unless true: without its key, results cannot be read. */
  overwrite?: boolean
  signal?: AbortSignal
  onProgress?: (event: StudyProgress) => void
}

const optionKeys = [
  'protocol',
  'items',
  'page',
  'key',
  'title',
  'instructions',
  'criteria',
  'against',
  'language',
  'seed',
  'imageSize',
  'overwrite',
  'signal',
  'onProgress',
] as const satisfies (keyof CreateStudyOptions)[]
const itemKeys = [
  'id',
  'text',
  'image',
  'question',
  'angle',
  'responses',
] as const satisfies (keyof StudyItem)[]
const longestText = 10_000 // characters; more would not fit a screen
const maxImageSize = 4096

/** An item whose parts are known to be there. */
export interface CheckedItem extends StudyItem {
  id: string
}

/** {@link CreateStudyOptions} that are known to fit together. */
export interface CheckedStudy {
  name: ProtocolName
  protocol: Protocol
  criteria: readonly Criterion[]
  items: readonly CheckedItem[]
  systems: readonly string[]
  /** Those whose responses are shown together: one, or two. */
  shown: readonly (readonly string[])[]
  title: string
  instructions: string
  language: StudyLanguage
}

/** Checks all options but paths, without reading a picture. */
export function checkStudy(options: CreateStudyOptions): CheckedStudy {
  rejectUnknownKeys('createStudy options', options, optionKeys)
  const name = expectOneOf('protocol', options?.protocol, PROTOCOL_NAMES)
  const protocol: Protocol = PROTOCOLS[name]
  const language = expectOneOf('language', options.language ?? 'en', STUDY_LANGUAGES)
  const title = nonEmpty('title', options.title ?? protocol.title[language])
  const instructions = expectString('instructions', options.instructions ?? '').trim()
  const criteria = checkCriteria(protocol, options.criteria)
  if (options.seed !== undefined) expectInteger('seed', options.seed, { min: 0 })
  if (options.imageSize !== undefined) {
    expectInteger('imageSize', options.imageSize, { min: 1, max: maxImageSize })
    if (protocol.judged !== 'image') throw notFor('imageSize', name, 'it judges texts')
  }
  if (options.overwrite !== undefined) expectBoolean('overwrite', options.overwrite)
  if (options.onProgress !== undefined && typeof options.onProgress !== 'function')
    throw typeMismatch('onProgress', 'a function', options.onProgress)
  const { items, systems } = checkStudyItems(name, options.items)
  for (const [what, text] of Object.entries({ title, instructions })) refuseSystemNames(what, text, systems)
  const shown = shownTogether(name, systems, options.against)
  return { name, protocol, criteria, items, systems, shown, title, instructions, language }
}

function checkCriteria(protocol: Protocol, ids: readonly string[] | undefined): readonly Criterion[] {
  if (ids === undefined) return protocol.criteria
  if (!Array.isArray(ids)) throw typeMismatch('criteria', 'an array of strings', ids)
  if (ids.length === 0) throw outOfRange('criteria', 'at least one criterion', ids)
  const known = protocol.criteria.map(({ id }) => id)
  ids.forEach((id, i) => expectOneOf(`criteria[${i}]`, id, known))
  // in the protocol's order, which raters of all its studies then share
  return protocol.criteria.filter(({ id }) => ids.includes(id))
}

/**
 * Checks items without reading pictures.
 *
 * @param lacking a system that items may have no response of
 */
export function checkStudyItems(
  name: ProtocolName,
  given: readonly StudyItem[],
  lacking?: string,
): { items: CheckedItem[]; systems: string[] } {
  if (!Array.isArray(given)) throw typeMismatch('items', 'an array of items', given)
  if (given.length === 0) throw outOfRange('items', 'at least one item', given)
  const protocol: Protocol = PROTOCOLS[name]
  const ids = new Set<string>()
  let systems: string[] | undefined
  const items = given.map((item: StudyItem, i) => {
    const where = `items[${i}]`
    if (item === undefined) throw typeMismatch(where, 'an object', item)
    rejectUnknownKeys(where, item, itemKeys)
    const id = nonEmpty(`${where}.id`, item.id ?? String(i + 1))
    if (ids.has(id)) throw outOfRange(`${where}.id`, 'an id that no other item has', id)
    ids.add(id)
    for (const part of ['text', 'image', 'question'] as const) checkPart(name, protocol, where, item, part)
    if (item.angle !== undefined) nonEmpty(`${where}.angle`, item.angle)
    const own = checkResponses(protocol, where, item.responses)
    const others = own.filter((system) => system !== lacking)
    systems ??= others
    const missing = [
      ...systems.filter((one) => !others.includes(one)),
      ...others.filter((one) => !systems!.includes(one)),
    ]
    if (missing.length > 0) {
      const text = `Expected responses of the same systems for all items, and only one of the items 1 and ${i + 1} has a response of ${JSON.stringify(missing[0])}`
      throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: where, systems: missing })
    }
    return { ...item, id }
  })
  return { items, systems: systems! }
}

function checkPart(
  name: ProtocolName,
  { given }: Protocol,
  where: string,
  item: StudyItem,
  part: 'text' | 'image' | 'question',
): void {
  const value = item[part]
  if (!given.includes(part)) {
    if (value !== undefined) throw notFor(`${where}.${part}`, name, `it shows ${given.join(' and ')}`)
  } else if (part !== 'image') nonEmpty(`${where}.${part}`, value)
  else if (value === undefined) throw typeMismatch(`${where}.image`, 'a picture', value)
}

function checkResponses({ judged }: Protocol, where: string, responses: StudyItem['responses']): string[] {
  if (typeof responses !== 'object' || responses === null || Array.isArray(responses))
    throw typeMismatch(`${where}.responses`, 'an object of responses by the names of systems', responses)
  return Object.entries(responses).map(([system, response]) => {
    nonEmpty(`the name of a system in ${where}.responses`, system)
    const name = `${where}.responses[${JSON.stringify(system)}]`
    if (judged === 'text') nonEmpty(name, response)
    else if (response === undefined) throw typeMismatch(name, 'a picture', response)
    return system
  })
}

/** Each system by itself; of pairs, each with each, or all others with one. */
function shownTogether(
  name: ProtocolName,
  systems: readonly string[],
  against: string | undefined,
): string[][] {
  if (PROTOCOLS[name].shown === 'one') {
    if (against !== undefined) throw notFor('against', name, 'it shows one response at a time')
    if (systems.length === 0)
      throw outOfRange('items[0].responses', 'responses of at least one system', systems)
    return systems.map((system) => [system])
  }
  if (systems.length < 2) throw outOfRange('items[0].responses', 'responses of at least two systems', systems)
  if (against !== undefined) {
    const one = expectOneOf('against', against, systems)
    return systems.filter((system) => system !== one).map((system) => [one, system])
  }
  return systems.flatMap((one, i) => systems.slice(i + 1).map((other) => [one, other]))
}

/** Whole words only: a system called `a` is not in every sentence. */
function refuseSystemNames(what: string, text: string, systems: readonly string[]): void {
  const words = ` ${text} `.toLowerCase()
  for (const system of systems) {
    const pattern = system.toLowerCase().replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
    if (!new RegExp(`(?<![\\p{L}\\p{N}])${pattern}(?![\\p{L}\\p{N}])`, 'u').test(words)) continue
    const message = `Expected no name of a system in ${what}, which raters see, and ${JSON.stringify(system)} is there. Say it otherwise, or give the system another name`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', message, { argument: what, system })
  }
}

function nonEmpty(name: string, value: unknown): string {
  const text = expectString(name, value)
  if (text.trim() === '') throw outOfRange(name, 'a text that is not empty', value)
  if (text.length > longestText) throw outOfRange(name, `a text of at most ${longestText} characters`, value)
  return text
}

function notFor(argument: string, protocol: ProtocolName, reason: string): VilgError {
  const text = `${argument} is not for the protocol ${protocol}: ${reason}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument, protocol })
}
