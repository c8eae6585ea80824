import { VilgError } from '../errors.ts'
import type { CaptionItem } from '../metrics/captions/evaluate-captions.ts'
import { readText } from '../read-text.ts'

/** Captions to judge with the ids of their pictures. */
export interface IdentifiedCaptions {
  ids: string[]
  items: CaptionItem[]
  /** References of pictures that have no candidate. */
  unused: number
}

const referenceForms =
  '{"<id>": ["...", ...], ...} or {"annotations": [{"image_id": <id>, "caption": "..."}, ...]}, as COCO has it'
const candidateForms = '{"<id>": "...", ...} or [{"image_id": <id>, "caption": "..."}, ...], as COCO has it'

/**
 * Reads the captions that people gave and those to judge, in the forms of COCO or as objects by id.
 *
 * @throws ERR_VILG_IO, ERR_VILG_INVALID_ARGUMENT
 */
export async function readCaptionFiles(references: string, candidates: string): Promise<IdentifiedCaptions> {
  const known = collect(references, referenceForms, await readJson(references), 'annotations')
  const given = collect(candidates, candidateForms, await readJson(candidates))
  const items = [...given].map(([id, texts]) => {
    const others = known.get(id)
    if (!others)
      throw refused(`Expected references in ${references} for ${JSON.stringify(id)} of ${candidates}`)
    if (texts.length !== 1) throw refused(`Expected one caption for ${JSON.stringify(id)} in ${candidates}`)
    return { candidate: texts[0]!, references: others }
  })
  if (items.length === 0) throw refused(`Expected at least one caption in ${candidates}`)
  return { ids: [...given.keys()], items, unused: known.size - items.length }
}

/** Texts by id, in the order of the file; `listKey` is where an object may have its list. */
function collect(path: string, forms: string, value: unknown, listKey?: string): Map<string, string[]> {
  const wrong = (where: string): VilgError => refused(`Expected ${forms} in ${path}, and ${where} is not so`)
  const texts = new Map<string, string[]>()
  const add = (id: string, text: unknown, where: string): void => {
    if (typeof text !== 'string') throw wrong(where)
    const list = texts.get(id)
    if (list) list.push(text)
    else texts.set(id, [text])
  }
  if (typeof value !== 'object' || value === null) throw wrong('it')
  const list: unknown = listKey === undefined ? value : (value as Record<string, unknown>)[listKey]
  if (Array.isArray(list)) {
    list.forEach((entry: { image_id?: unknown; caption?: unknown } | null, i) => {
      const id = entry?.image_id
      if (typeof id !== 'number' && typeof id !== 'string') throw wrong(`entry ${i}`)
      add(String(id), entry!.caption, `entry ${i}`)
    })
    return texts
  }
  if (Array.isArray(value)) throw wrong('its list')
  for (const [id, entry] of Object.entries(value)) {
    const own: unknown[] = Array.isArray(entry) ? entry : [entry]
    if (own.length === 0) throw wrong(JSON.stringify(id))
    for (const text of own) add(id, text, JSON.stringify(id))
  }
  return texts
}

async function readJson(path: string): Promise<unknown> {
  const text = await readText(path)
  try {
    return JSON.parse(text.replace(/^\ufeff/, '')) as unknown
  } catch (cause) {
    throw new VilgError(
      'ERR_VILG_INVALID_ARGUMENT',
      `Expected JSON in ${path}: ${(cause as Error).message}`,
      { path },
      { cause },
    )
  }
}

function refused(message: string): VilgError {
  return new VilgError('ERR_VILG_INVALID_ARGUMENT', message)
}
