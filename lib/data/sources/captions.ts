const utf8 = new TextDecoder('utf-8', { fatal: true })
const byteOrderMark = /^\ufeff/

/** Bytes as text, or why they are none. */
export type DecodedText = { text: string } | { reason: string }

/** Decodes UTF-8, without its byte order mark. Of other bytes it says what they seem to be. */
export function decodeText(bytes: Uint8Array): DecodedText {
  try {
    return { text: utf8.decode(bytes) }
  } catch {
    return { reason: `is not UTF-8 (${guessEncoding(bytes)})` }
  }
}

function guessEncoding(bytes: Uint8Array): string {
  const [first, second] = bytes
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
    return 'it begins like UTF-16: convert it to UTF-8'
  try {
    const text = new TextDecoder('gb18030', { fatal: true }).decode(bytes)
    const shown = [...text.trim()].slice(0, 12).join('')
    return `it reads as GBK, "${shown}": convert it by iconv -f GB18030 -t UTF-8`
  } catch {
    return 'and not GBK either'
  }
}

/** Captions without what surrounds them, empty ones and repetitions. */
export function cleanCaptions(captions: readonly string[]): string[] {
  const trimmed = captions.map((caption) => caption.replace(byteOrderMark, '').trim())
  return [...new Set(trimmed.filter((caption) => caption !== ''))]
}

/** The captions of a text file: one a line. */
export function captionLines(bytes: Uint8Array): { captions: string[] } | { reason: string } {
  const decoded = decodeText(bytes)
  if ('reason' in decoded) return decoded
  const captions = cleanCaptions(decoded.text.split('\n'))
  return captions.length > 0 ? { captions } : { reason: 'has no caption' }
}

/** Fields that have captions where none is named: the first that is there. */
export const CAPTION_FIELDS = Object.freeze(['texts', 'text', 'caption'] as const)

/**
 * The captions of a record of JSON, CSV or Parquet.
 *
 * @param field has a string or an array of strings; one of {@link CAPTION_FIELDS} unless given, of which `texts` has an array
 */
export function captionsOf(
  record: Readonly<Record<string, unknown>>,
  field?: string,
): { captions: string[] } | { reason: string } {
  const names = field === undefined ? CAPTION_FIELDS : [field]
  const name = names.find((one) => record[one] !== undefined && record[one] !== null)
  if (name === undefined) return { reason: `has no ${names.join(', ')}` }
  const value = record[name]
  if (field === undefined && name === 'texts' && !Array.isArray(value))
    return { reason: 'has texts that are no array' }
  const given = Array.isArray(value) ? (value as unknown[]) : [value]
  if (given.some((one) => typeof one !== 'string'))
    return { reason: `has a ${name} that is neither a string nor an array of strings` }
  const captions = cleanCaptions(given as string[])
  return captions.length > 0 ? { captions } : { reason: 'has no caption' }
}
