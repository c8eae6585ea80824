import { dirname, resolve } from 'node:path'
import { VilgError } from '../errors.ts'
import { readText } from '../read-text.ts'
import { expectOneOf, expectString } from '../validate.ts'
import { type Protocol, PROTOCOL_NAMES, type ProtocolName, PROTOCOLS } from './protocols.ts'
import type { StudyItem } from './study-options.ts'

/**
 * Reads the items of a study from a file of one JSON object a line, with the fields of {@link StudyItem}; pictures are paths, from the folder
 * of the file on. Empty lines are left out.
 *
 * @throws ERR_VILG_IO; ERR_VILG_INVALID_ARGUMENT with the line that is no JSON object. What is in the objects is checked by createStudy.
 */
export async function readStudyItems(path: string, protocol: ProtocolName): Promise<StudyItem[]> {
  expectString('path', path)
  const { judged }: Protocol = PROTOCOLS[expectOneOf('protocol', protocol, PROTOCOL_NAMES)]
  const text = await readText(path)
  const folder = dirname(path)
  const lines = text.replace(/^\ufeff/, '').split(/\r?\n/)
  return lines.flatMap((line, i) =>
    line.trim() === '' ? [] : [readItem(line, `${path}, line ${i + 1}`, folder, judged)],
  )
}

function readItem(line: string, where: string, folder: string, judged: Protocol['judged']): StudyItem {
  let item: unknown
  try {
    item = JSON.parse(line)
  } catch (cause) {
    const text = `Expected a JSON object in ${where}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { where }, { cause })
  }
  if (!isObject(item)) {
    throw new VilgError(
      'ERR_VILG_INVALID_ARGUMENT',
      `Expected a JSON object in ${where}, and it is another value`,
      { where },
    )
  }
  const { image, responses = {} } = item
  const answers =
    judged === 'image' && isObject(responses)
      ? Object.fromEntries(
          Object.entries(responses).map(([system, answer]) => [system, fromFolder(folder, answer)]),
        )
      : responses
  const given = image === undefined ? {} : { image: fromFolder(folder, image) }
  return { ...item, ...given, responses: answers } as StudyItem
}

/** What is no path stays as it is, for the check that names its place. */
function fromFolder(folder: string, path: unknown): unknown {
  return typeof path === 'string' && path !== '' ? resolve(folder, path) : path
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
