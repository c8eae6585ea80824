import { CounterRandom } from '../../lib/data/random.ts'
import { dominantColor } from './colors.ts'
import type { EmojiItem } from './dataset.ts'
import { combinationOf } from './held-out.ts'

/** What a question is about. */
export const QUESTION_KINDS = Object.freeze(['kind', 'color', 'skin', 'count', 'yes-no'] as const)

/** One of {@link QUESTION_KINDS}. */
export type QuestionKind = (typeof QUESTION_KINDS)[number]

/** A question that a picture answers. */
export interface Question {
  kind: QuestionKind
  question: string
  answer: string
}

/** What a picture shows, by its subcategory, or by its category where that is all that counts. */
const kinds: Readonly<Record<string, string>> = {
  'Animals & Nature/animal-amphibian': '动物',
  'Animals & Nature/animal-bird': '动物',
  'Animals & Nature/animal-mammal': '动物',
  'Animals & Nature/animal-marine': '动物',
  'Animals & Nature/animal-reptile': '动物',
  'Animals & Nature/animal-bug': '虫子',
  'Animals & Nature/plant-flower': '植物',
  'Animals & Nature/plant-other': '植物',
  'Food & Drink/food-fruit': '水果',
  'Food & Drink/food-vegetable': '蔬菜',
  'Food & Drink/food-asian': '食物',
  'Food & Drink/food-prepared': '食物',
  'Food & Drink/food-sweet': '甜食',
  'Food & Drink/drink': '饮料',
  'Flags/country-flag': '旗帜',
  'Flags/subdivision-flag': '旗帜',
  'Objects/clothing': '衣物',
  'Objects/musical-instrument': '乐器',
  'Objects/tool': '工具',
  'People & Body/hand-fingers-closed': '手',
  'People & Body/hand-fingers-open': '手',
  'People & Body/hand-fingers-partial': '手',
  'People & Body/hand-single-finger': '手',
  'People & Body/hands': '手',
  'People & Body/person': '人',
  'People & Body/person-activity': '人',
  'People & Body/person-gesture': '人',
  'People & Body/person-resting': '人',
  'People & Body/person-role': '人',
  'People & Body/person-sport': '人',
  'Smileys & Emotion/face-affection': '表情',
  'Smileys & Emotion/face-concerned': '表情',
  'Smileys & Emotion/face-negative': '表情',
  'Smileys & Emotion/face-neutral-skeptical': '表情',
  'Smileys & Emotion/face-sleepy': '表情',
  'Smileys & Emotion/face-smiling': '表情',
  'Smileys & Emotion/face-tongue': '表情',
  'Smileys & Emotion/face-unwell': '表情',
  'Smileys & Emotion/heart': '心',
  'Symbols/arrow': '箭头',
  'Travel & Places/place-building': '建筑',
  'Travel & Places/place-religious': '建筑',
  'Travel & Places/transport-air': '交通工具',
  'Travel & Places/transport-ground': '交通工具',
  'Travel & Places/transport-water': '交通工具',
}
const kindNames = [...new Set(Object.values(kinds))]

const kindQuestions = ['这是什么？', '图里是什么？', '画的是哪一类东西？']
const colorQuestions = ['主要是什么颜色？', '图里最多的是什么颜色？']
const skinQuestions = ['是什么肤色？', '图里的人是什么肤色？']
const countQuestions = ['图里有几个人？', '有多少个人？']

const skinTones: Readonly<Record<string, string>> = {
  '1F3FB': '较浅肤色',
  '1F3FC': '中等-浅肤色',
  '1F3FD': '中等肤色',
  '1F3FE': '中等-深肤色',
  '1F3FF': '较深肤色',
}
const numerals = ['', '一个', '两个', '三个', '四个']
const children = ['1F466', '1F467', '1F9D2']
const familyCode = '1F46A' // somebody's family, of as many as the font likes
const pairCodes = ['1F46F', '1F93C'] // dancers with rabbit ears, wrestlers
/** Subcategories in which every picture shows as many people as its code points say. */
const countable = [
  'family',
  'person',
  'person-activity',
  'person-gesture',
  'person-resting',
  'person-role',
  'person-sport',
]
const counted = new Set(countable.map((name) => `People & Body/${name}`))

/**
 * Questions that a picture answers: what it shows, its main colour, the skin tone and the number of people, and two to be answered with yes or
 * no, of which one is right. Only what is certain is asked: the colour where one takes most of what is not white, the tone where
 * all people have the same one.
 *
 * @param random decides how a question is put, and the wrong one
 */
export function questionsOf(item: EmojiItem, random: CounterRandom): Question[] {
  const pick = <T>(of: readonly T[]): T => of[random.below(of.length)]!
  const questions: Question[] = []
  const ask = (kind: QuestionKind, question: string, answer: string) =>
    questions.push({ kind, question, answer })

  const subcategory = `${item.category}/${item.subcategory}`
  const kind = kinds[subcategory]
  if (kind !== undefined) {
    ask('kind', pick(kindQuestions), kind)
    ask('yes-no', `这是${kind}吗？`, '是')
    ask('yes-no', `这是${pick(kindNames.filter((name) => name !== kind))}吗？`, '不是')
  }
  const tones = item.id
    .toUpperCase()
    .split('-')
    .filter((code) => code in skinTones)
  if (tones.length > 0 && new Set(tones).size === 1) ask('skin', pick(skinQuestions), skinTones[tones[0]!]!)
  // of people, skin and hair compete with clothes: their colour is not certain
  if (item.category !== 'People & Body') {
    const color = dominantColor(item)
    if (color !== undefined) ask('color', pick(colorQuestions), color)
  }
  if (counted.has(subcategory)) {
    const people = peopleIn(item.id)
    if (people > 0) ask('count', pick(countQuestions), numerals[people]!)
  }
  return questions
}

/** How many people the code points of a picture name, 0 where they do not tell. */
function peopleIn(id: string): number {
  const parts = combinationOf(id.toUpperCase()).family.split('-')
  const named = parts.filter((part) => part === 'person' || children.includes(part)).length
  if (named > 0) return named
  const [first] = parts
  if (first === familyCode) return 0
  // who is given as an activity is one person
  return pairCodes.includes(first!) ? 2 : 1
}
