import test from 'ava'
import { colorName, dominantColor } from '../../examples/emoji/colors.ts'
import type { EmojiItem } from '../../examples/emoji/dataset.ts'
import { questionsOf } from '../../examples/emoji/questions.ts'
import { CounterRandom } from '../../lib/data/random.ts'

function picture(width: number, height: number, colors: readonly (readonly number[])[]) {
  const pixels = new Uint8Array(width * height * 3).fill(255)
  colors.forEach((color, i) => pixels.set(color, i * 3))
  return { pixels, width, height }
}

function item(given: Partial<EmojiItem>): EmojiItem {
  const image = picture(4, 4, [])
  const base = { name: '苹果', captions: ['苹果'], emoji: '', id: '1f34e' }
  return { ...base, ...image, category: 'Food & Drink', subcategory: 'food-fruit', ...given }
}

const ask = (given: Partial<EmojiItem>, seed = 1) =>
  questionsOf(item(given), new CounterRandom(seed)).map(({ kind, answer }) => [kind, answer])

test('colours have their names', (t) => {
  const named = {
    红色: [220, 30, 30],
    橙色: [250, 140, 20],
    黄色: [250, 220, 40],
    绿色: [60, 180, 60],
    蓝色: [40, 90, 220],
    紫色: [140, 60, 200],
    粉色: [240, 100, 180],
    棕色: [120, 80, 50],
    黑色: [20, 20, 25],
    灰色: [130, 130, 135],
  }
  for (const [name, [red, green, blue]] of Object.entries(named)) t.is(colorName(red!, green!, blue!), name)
  t.is(colorName(255, 255, 255), undefined)
  t.is(colorName(200, 0, 40), '红色')
})

test('a colour dominates by its share of what is not white', (t) => {
  const red = [220, 30, 30]
  const blue = [40, 90, 220]
  t.is(dominantColor(picture(4, 4, [red, red, red, blue])), '红色')
  t.is(dominantColor(picture(4, 4, [red, blue])), undefined)
  t.is(dominantColor(picture(10, 10, [red])), undefined)
  t.is(dominantColor(picture(4, 4, [])), undefined)
})

test('questions about a thing', (t) => {
  const red = Array.from({ length: 8 }, () => [220, 30, 30])
  t.deepEqual(ask(picture(4, 4, red)), [
    ['kind', '水果'],
    ['yes-no', '是'],
    ['yes-no', '不是'],
    ['color', '红色'],
  ])
  for (let seed = 0; seed < 50; seed++) {
    const [, right, wrong] = questionsOf(item({}), new CounterRandom(seed))
    t.is(right!.question, '这是水果吗？')
    t.false(wrong!.question.includes('水果'))
  }
})

test('questions about people', (t) => {
  const role = { category: 'People & Body', subcategory: 'person-role' }
  const count = ([kind]: string[]) => kind === 'count' || kind === 'skin'
  t.deepEqual(ask({ ...role, id: '1f468-1f3fd-200d-1f373' }).filter(count), [
    ['skin', '中等肤色'],
    ['count', '一个'],
  ])
  // of two people with different skin nothing is asked about it
  const activity = { category: 'People & Body', subcategory: 'person-activity' }
  t.deepEqual(ask({ ...activity, id: '1f3c3' }).filter(count), [['count', '一个']])
  const family = { ...role, subcategory: 'family' }
  t.deepEqual(ask({ ...family, id: '1f46b-1f3fb' }).filter(count), [
    ['skin', '较浅肤色'],
    ['count', '两个'],
  ])
  for (const [id, people] of [
    ['1f469-1f3fb-200d-1f91d-200d-1f468-1f3fc', '两个'],
    ['1f468-200d-1f469-200d-1f467-200d-1f466', '四个'],
    ['1f93c-200d-2640-fe0f', '两个'],
  ] as const) {
    t.deepEqual(ask({ ...family, id }).filter(count), [['count', people]])
  }
  // as many as the font likes
  t.deepEqual(ask({ ...family, id: '1f46a' }).filter(count), [])
})

test('what is not certain is not asked', (t) => {
  t.deepEqual(ask({ category: 'Symbols', subcategory: 'zodiac', id: '2648' }), [])
})
