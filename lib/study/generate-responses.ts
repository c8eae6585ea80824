import type { ImageInput } from '../data/image.ts'
import { VilgError } from '../errors.ts'
import type { DrawOptions } from '../sampler/options.ts'
import type { Sampler } from '../sampler/sampler.ts'
import { expectInteger, expectOneOf, expectString, rejectUnknownKeys } from '../validate.ts'
import { PROTOCOL_NAMES, type ProtocolName, PROTOCOLS } from './protocols.ts'
import { checkStudyItems, type StudyItem } from './study-options.ts'

/** Options of {@link generateResponses}. */
export interface GenerateResponsesOptions extends DrawOptions {
  protocol: ProtocolName
  /** The name under which the responses are added. */
  system: string
  /** Pictures drawn for each text, 1 to 1024, of which the best is taken by the model's own likelihood; 1 unless given. */
  count?: number
  signal?: AbortSignal
  /** Called with the share of the items that is done, in (0, 1]. */
  onProgress?: (event: { fraction: number }) => void
}

const optionKeys = [
  'protocol',
  'system',
  'count',
  'seed',
  'temperature',
  'topK',
  'topP',
  'signal',
  'onProgress',
] as const satisfies (keyof GenerateResponsesOptions)[]

/**
 * Lets a model answer all items: pictures drawn from their texts, descriptions of their pictures, or answers to their questions (texts by
 * beam search, unless options of {@link DrawOptions} ask for samples).
 *
 * @returns the items with one response more; one of the same system is replaced
 * @throws ERR_VILG_INVALID_ARGUMENT; the errors of the sampler, such as ERR_VILG_UNSUPPORTED for a model that was not trained to answer
 */
export async function generateResponses(
  sampler: Sampler,
  items: readonly StudyItem[],
  options: GenerateResponsesOptions,
): Promise<StudyItem[]> {
  rejectUnknownKeys('generateResponses options', options, optionKeys)
  const protocol = expectOneOf('protocol', options?.protocol, PROTOCOL_NAMES)
  const system = expectString('system', options.system)
  const count = expectInteger('count', options.count ?? 1, { min: 1, max: 1024 })
  const { signal, onProgress, seed, temperature, topK, topP } = options
  const judgesTexts = PROTOCOLS[protocol].judged === 'text'
  if (judgesTexts && count !== 1) {
    const text = `count ${count} is not for the protocol ${protocol}: the best text is taken`
    throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { argument: 'count' })
  }
  const { items: checked } = checkStudyItems(protocol, items, system)
  const given = { seed, temperature, topK, topP, signal }
  const shared = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const write = async ({ image, question }: StudyItem): Promise<string> => {
    const texts =
      question === undefined
        ? await sampler.imageToText(image!, shared)
        : await sampler.answer(image!, question, shared)
    return texts[0]!.text
  }
  const draw = async ({ text }: StudyItem): Promise<ImageInput> => {
    const images = await sampler.textToImage(text!, { ...shared, count, ...(count > 1 ? { best: 1 } : {}) })
    return images[0]!
  }
  const answered: StudyItem[] = []
  for (const item of checked) {
    const response = judgesTexts ? await write(item) : await draw(item)
    answered.push({ ...item, responses: { ...item.responses, [system]: response } })
    onProgress?.({ fraction: answered.length / checked.length })
  }
  return answered
}
