import { CONTINUATION, IDEOGRAPH } from './word-piece.ts'

// WordPiece forgets where the white space was. These rules put back what writers of either language expect to see: Chinese is
// set without spaces, Latin words with one between them, punctuation as English sets it.
//
// A space goes only where one side is a word by itself, an ideograph or punctuation. Between any other two words there was
// white space in the text, or they would be one word: so a joined text has the same pieces again.

// Ideographs, and of the ideographic and full-width blocks the punctuation: full-width letters are parts of words. A model may
// well put a piece `##文` after an ideograph, so the ends of a word are what is looked at.
const wide = `(?:${IDEOGRAPH.source}|(?=\\p{P})[\\u3000-\\u303f\\u30fb\\ufe10-\\ufe1f\\ufe30-\\ufe4f\\uff01-\\uff65—…·])`
const beginsWide = new RegExp(`^${wide}`, 'u')
const endsWide = new RegExp(`${wide}$`, 'u')

const closing = new Set('.,;:!?)]}%’”»')
const opening = new Set('([{‘“«$#')
// Between two words these nearly always stood without spaces: don't, e-mail, and/or, a_b, a@b.
const joining = new Set("'-_/@\\")
// Within numbers: 3.14, 10:30, and 5,999 where three digits follow.
const endsInNumber = /\p{N}$/u
const number = /^\p{N}+$/u
const thousands = /^\p{N}{3}$/u

/**
 * Puts WordPiece pieces, without special tokens, together to a text.
 *
 * @param compose compose what stripping accents took apart and did not strip, Hangul syllables above all
 */
export function joinPieces(pieces: readonly string[], compose: boolean): string {
  const words: string[] = []
  for (const piece of pieces) {
    if (piece.startsWith(CONTINUATION) && piece.length > CONTINUATION.length) {
      words.push((words.pop() ?? '') + piece.slice(CONTINUATION.length))
    } else if (piece !== '') {
      words.push(piece)
    }
  }
  let text = ''
  let quoteOpen = false
  for (const [index, word] of words.entries()) {
    if (index > 0 && !isTight(words, index, quoteOpen)) text += ' '
    if (word === '"') quoteOpen = !quoteOpen
    text += word
  }
  return compose ? text.normalize('NFC') : text
}

/** Whether no space belongs between the word at `index` and the one before. */
function isTight(words: readonly string[], index: number, quoteOpen: boolean): boolean {
  const before = words[index - 1]!
  const word = words[index]!
  if (endsWide.test(before) || beginsWide.test(word)) return true
  if (closing.has(word) || opening.has(before)) return true
  if (joining.has(word) || joining.has(before)) return true
  if (word === '"' || before === '"') return quoteOpen // both a closing one and what follows an opening one
  if (!endsInNumber.test(words[index - 2] ?? '')) return false
  return before === ',' ? thousands.test(word) : (before === '.' || before === ':') && number.test(word)
}
