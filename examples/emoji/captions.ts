import { CounterRandom } from '../../lib/data/random.ts'

/** What CLDR says of a picture. */
export interface Annotation {
  /** Its name, which no other picture has. */
  name: string
  /** Words that fit it. CLDR sorts them by sound: their order says nothing. */
  keywords: readonly string[]
}

/** Options of {@link makeCaptions}. */
export interface CaptionOptions {
  seed: number
  /** Longest caption, in characters. */
  maxCharacters: number
}

const pictureTemplates: readonly ((thing: string) => string)[] = [
  (thing) => `一个${thing}的图案`,
  (thing) => `一张${thing}的图片`,
  (thing) => `${thing}的图标`,
  (thing) => `${thing}的图案`,
  (thing) => `画一个${thing}的图案`,
]
const numTemplates = 2
const numSynonyms = 2

/**
 * Captions of all pictures, from their names and keywords.
 *
 * Of each picture, the first caption is its name as CLDR has it. The others, as far as they can be made: the name said as a
 * phrase (「挥手: 较浅肤色」 becomes 「较浅肤色的挥手」), two of five sentences around that phrase, the name with two keywords, keywords
 * alone, and, of names without detail, two synonyms. No caption belongs to two pictures, so that each says which picture is
 * meant.
 */
export function makeCaptions(
  annotations: readonly Annotation[],
  { seed, maxCharacters }: CaptionOptions,
): string[][] {
  const candidates = annotations.map((annotation, i) => candidatesOf(annotation, new CounterRandom(seed, i)))
  const names = new Set(annotations.map(({ name }) => name))
  const uses = new Map<string, number>()
  for (const { fixed, synonyms } of candidates) {
    for (const caption of new Set([...fixed, ...synonyms])) uses.set(caption, (uses.get(caption) ?? 0) + 1)
  }
  const fits = (caption: string) =>
    uses.get(caption) === 1 && !names.has(caption) && [...caption].length <= maxCharacters
  return annotations.map(({ name }, i) => {
    const { fixed, synonyms } = candidates[i]!
    return [...new Set([name, ...fixed.filter(fits), ...synonyms.filter(fits).slice(0, numSynonyms)])]
  })
}

function candidatesOf({ name, keywords }: Annotation, random: CounterRandom) {
  // "base: detail", the detail being skin tones, hair, the way somebody looks, or the country of a flag.
  const at = name.indexOf(': ')
  const base = at < 0 ? name : name.slice(0, at)
  const detail = at < 0 ? '' : name.slice(at + 2)
  const phrase = asPhrase(base, detail)
  const words = random.shuffled(
    keywords.filter(
      (word) => word !== base && word !== name && !detail.includes(word) && /[\p{L}\p{N}]/u.test(word),
    ),
  )
  const fixed = [
    phrase,
    ...random
      .shuffled(pictureTemplates)
      .slice(0, numTemplates)
      .map((template) => template(phrase)),
  ]
  if (words.length > 0) fixed.push(`${phrase}，${words.slice(0, 2).join('、')}`)
  const listed = random.shuffled(words).slice(0, 3)
  if (listed.length > 1) fixed.push([...listed, ...(detail === '' ? [] : [detail])].join('、'))
  // Of plain names only: with a skin tone before them, most keywords become nonsense (a hat of medium skin tone).
  const synonyms = detail === '' ? words.filter((word) => [...word].length > 1) : []
  return { fixed, synonyms }
}

function asPhrase(base: string, detail: string): string {
  if (detail === '') return base
  if (base === '旗') return `${detail}的旗帜`
  if (base === '按键') return `${detail}按键`
  return `${detail}的${base}`
}
