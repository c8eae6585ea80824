import { VilgError } from '../errors.ts'
import { readText } from '../read-text.ts'
import { describeValue, outOfRange } from '../validate.ts'
import { RESULTS_FORMAT, type ResponseId, type StudyResults } from './page-study.ts'
import {
  type Criterion,
  type Protocol,
  PROTOCOL_NAMES,
  type ProtocolName,
  PROTOCOLS,
  VERDICTS,
} from './protocols.ts'

/** What a key file says it is. */
export const KEY_FORMAT = 'ernie-vilg study key'

/** What is behind the ids of a study's page: the key file. */
export interface StudyKey {
  format: typeof KEY_FORMAT
  version: 1
  study: string
  title: string
  protocol: ProtocolName
  /** Ids of the criteria that are asked for. */
  criteria: string[]
  systems: string[]
  seed: number
  /** By the id of the unit. */
  units: Record<string, KeyUnit>
}

/** What is behind a unit. */
export interface KeyUnit {
  /** The id of its item. */
  item: string
  angle?: string
  /** The systems of the responses `a` and, of pairs, `b`. */
  systems: string[]
}

/** The criteria of a study, in full. */
export function criteriaOf({ protocol, criteria }: Pick<StudyKey, 'protocol' | 'criteria'>): Criterion[] {
  const { criteria: all }: Protocol = PROTOCOLS[protocol]
  return all.filter(({ id }) => criteria.includes(id))
}

/**
 * Reads a key file.
 *
 * @throws ERR_VILG_IO, ERR_VILG_INVALID_ARGUMENT with the file and what is wrong in it
 */
export async function readStudyKey(path: string): Promise<StudyKey> {
  const key = await readJson(path)
  const fault = keyFault(key)
  if (fault !== undefined) throw badFile(path, 'the key file of a study', fault)
  return key as unknown as StudyKey
}

function keyFault(key: JsonObject): string | undefined {
  if (key.format === RESULTS_FORMAT) return 'it is a results file'
  if (key.format !== KEY_FORMAT) return `its format is ${describeValue(key.format)}`
  if (key.version !== 1) return `its version is ${describeValue(key.version)}, and this library reads 1`
  if (typeof key.study !== 'string' || typeof key.title !== 'string') return 'study or title is missing'
  const { protocol, criteria, systems, units } = key
  if (!PROTOCOL_NAMES.includes(protocol as ProtocolName)) return `its protocol is ${describeValue(protocol)}`
  const known: string[] = PROTOCOLS[protocol as ProtocolName].criteria.map(({ id }) => id)
  if (!isTexts(criteria) || criteria.length === 0 || !criteria.every((id) => known.includes(id)))
    return `criteria are not some of ${known.join(', ')}`
  if (!isTexts(systems) || systems.length === 0) return 'systems are missing'
  if (!isObject(units) || Object.keys(units).length === 0) return 'units are missing'
  const shown = PROTOCOLS[protocol as ProtocolName].shown === 'pair' ? 2 : 1
  for (const [id, unit] of Object.entries(units)) {
    const isSound =
      isObject(unit) &&
      typeof unit.item === 'string' &&
      (unit.angle === undefined || typeof unit.angle === 'string') &&
      isTexts(unit.systems) &&
      unit.systems.length === shown &&
      unit.systems.every((system) => systems.includes(system))
    if (!isSound) return `its unit ${describeValue(id)} is not sound`
  }
  return undefined
}

/**
 * Reads a results file, and checks that all of it belongs to the study.
 *
 * @throws ERR_VILG_IO, ERR_VILG_INVALID_ARGUMENT with the file and what is wrong in it
 */
export async function readStudyResults(path: string, key: StudyKey): Promise<StudyResults> {
  const results = await readJson(path)
  const fault = resultsFault(results, key)
  if (fault !== undefined) throw badFile(path, `results of the study ${key.study}`, fault)
  return results as unknown as StudyResults
}

function resultsFault(results: JsonObject, key: StudyKey): string | undefined {
  if (results.format === KEY_FORMAT) return 'it is a key file'
  if (results.format !== RESULTS_FORMAT) return `its format is ${describeValue(results.format)}`
  if (results.version !== 1)
    return `its version is ${describeValue(results.version)}, and this library reads 1`
  if (results.study !== key.study) return `it belongs to the study ${describeValue(results.study)}`
  if (typeof results.rater !== 'string' || results.rater.trim() === '') return 'it names no rater'
  if (!isObject(results.answers)) return 'answers are missing'
  const criteria = criteriaOf(key)
  for (const [id, answers] of Object.entries(results.answers)) {
    const unit = Object.hasOwn(key.units, id) ? key.units[id] : undefined
    if (unit === undefined) return `the study has no unit ${describeValue(id)}`
    const fault = answersFault(answers, unit, criteria)
    if (fault !== undefined) return `in its unit ${id}, ${fault}`
  }
  return undefined
}

function answersFault(answers: unknown, unit: KeyUnit, criteria: readonly Criterion[]): string | undefined {
  if (!isObject(answers) || !isObject(answers.values)) return 'values are missing'
  const { seconds, first } = answers
  if (typeof seconds !== 'number' || !(seconds >= 0)) return `seconds are ${describeValue(seconds)}`
  const isPair = unit.systems.length === 2
  if (isPair ? first !== 'a' && first !== 'b' : first !== undefined) return `first is ${describeValue(first)}`
  for (const [id, value] of Object.entries(answers.values)) {
    const criterion = criteria.find((one) => one.id === id)
    if (criterion === undefined) return `there is no criterion ${describeValue(id)}`
    const expected = expectedAnswer(criterion, value)
    if (expected !== undefined) return `${id} is ${describeValue(value)} and not ${expected}`
  }
  return undefined
}

/** What an answer should be; undefined where it is. */
function expectedAnswer(criterion: Criterion, value: unknown): string | undefined {
  if (criterion.kind === 'rating') {
    const { min, max } = criterion
    const isRating = Number.isInteger(value) && (value as number) >= min && (value as number) <= max
    return isRating ? undefined : `a whole number from ${min} to ${max}`
  }
  const allowed: readonly string[] =
    criterion.kind === 'verdict' ? VERDICTS : (['a', 'b'] satisfies ResponseId[])
  return allowed.includes(value as string)
    ? undefined
    : allowed.map((one) => JSON.stringify(one)).join(' or ')
}

/** Refuses two files of one rater: be it one file twice, or two raters who gave one name. */
export function refuseDoubleRaters(files: readonly { path: string; results: StudyResults }[]): void {
  const seen = new Map<string, string>()
  for (const { path, results } of files) {
    const rater = results.rater.normalize('NFC').trim().toLowerCase()
    const earlier = seen.get(rater)
    if (earlier !== undefined) {
      const text = `Expected one file of each rater, and ${earlier} and ${path} are both of ${describeValue(results.rater)}. Leave one out, or change "rater" in one of them`
      throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { rater: results.rater, paths: [earlier, path] })
    }
    seen.set(rater, path)
  }
}

type JsonObject = Record<string, unknown>

async function readJson(path: string): Promise<JsonObject> {
  if (path === '' || path.includes('\0')) throw outOfRange('the file', 'a path', path)
  const text = await readText(path)
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
  } catch (cause) {
    throw badFile(path, 'a JSON file', (cause as Error).message, cause)
  }
  throw badFile(path, 'a JSON object', 'it is none')
}

function badFile(path: string, expected: string, fault: string, cause?: unknown): VilgError {
  const text = `Expected ${expected}, and ${path} is none: ${fault}`
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { path }, { cause })
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}
