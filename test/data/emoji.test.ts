import test from 'ava'
import { type Annotation, makeCaptions } from '../../examples/emoji/captions.ts'
import { chooseHeldOut, combinationOf } from '../../examples/emoji/held-out.ts'

const tones = ['1F3FB', '1F3FC', '1F3FD', '1F3FE', '1F3FF']

test('combinations tell tone, gender and direction from what a family has in common', (t) => {
  const family = (unified: string) => combinationOf(unified).family
  t.deepEqual(combinationOf('1F44B-1F3FB'), { family: '1F44B', attributes: ['none', '1F3FB', 'left'] })
  t.is(family('1F44B'), '1F44B')
  // A woman running, with and without the variation selector, and to the right.
  t.deepEqual(combinationOf('1F3C3-1F3FC-200D-2640-FE0F-200D-27A1-FE0F'), {
    family: '1F3C3',
    attributes: ['female', '1F3FC', 'right'],
  })
  t.is(family('1F468-1F3FB-200D-1F680'), family('1F469-200D-1F680'))
  t.not(family('1F468-1F3FB-200D-1F680'), family('1F468-1F3FB-200D-1F3A8'))
  t.deepEqual(combinationOf('1F469-1F3FB-200D-2764-FE0F-200D-1F468-1F3FE').attributes, [
    'female',
    'none',
    'male',
    '1F3FB',
    'none',
    '1F3FE',
    'left',
  ])
  t.not(family('1F1E8-1F1F3'), family('1F1EF-1F1F5'))
})

test('pairs with one code point belong to the family of their sequences', (t) => {
  t.deepEqual(combinationOf('1F46B-1F3FD'), combinationOf('1F469-1F3FD-200D-1F91D-200D-1F468-1F3FD'))
  t.deepEqual(combinationOf('1F46C'), combinationOf('1F468-200D-1F91D-200D-1F468'))
  t.deepEqual(
    combinationOf('1F48F-1F3FF'),
    combinationOf('1F9D1-1F3FF-200D-2764-FE0F-200D-1F48B-200D-1F9D1-1F3FF'),
  )
  t.deepEqual(combinationOf('1F91D-1F3FE'), combinationOf('1FAF1-1F3FE-200D-1FAF2-1F3FE'))
})

const emoji = [
  ...['1F44B', '1F44D', '1F44E', '1F590-FE0F'].flatMap((base) => [base, ...tones.map((tone) => `${base}-${tone}`)]),
  ...['1F468', '1F469', '1F9D1'].flatMap((who) => ['', ...tones.map((tone) => `-${tone}`)].map((tone) => `${who}${tone}-200D-1F680`)),
  ...['1F600', '1F431', '1F1E8-1F1F3'],
] // prettier-ignore

test('held-out pictures have two siblings in training, a tone or gender, and no twin', (t) => {
  const twins = emoji.map((_, i) => i)
  twins[3] = 2 // 1F44B in two tones looks the same
  for (const share of [0.05, 0.3, 1]) {
    const heldOut = chooseHeldOut(emoji, twins, { seed: 3, share })
    t.deepEqual(heldOut, chooseHeldOut(emoji, twins, { seed: 3, share }))
    if (share < 1) t.is(heldOut.length, Math.round(emoji.length * share))
    else t.true(heldOut.length > 10 && heldOut.length < emoji.length)
    const train = emoji.filter((_, i) => !heldOut.includes(i))
    for (const i of heldOut) {
      t.true(i !== 2 && i !== 3)
      const { family, attributes } = combinationOf(emoji[i]!)
      t.true(
        attributes.some((one) => one.startsWith('1F3F') || one === 'male' || one === 'female'),
        emoji[i],
      )
      const siblings = train.filter((other) => {
        const combination = combinationOf(other)
        if (combination.family !== family) return false
        return combination.attributes.filter((one, k) => one !== attributes[k]).length === 1
      })
      t.true(siblings.length >= 2, `${emoji[i]}: ${siblings}`)
    }
  }
  const split = (seed: number) => chooseHeldOut(emoji, twins, { seed, share: 0.3 })
  t.notDeepEqual(split(3), split(4))
  t.deepEqual(chooseHeldOut(emoji, twins, { seed: 3, share: 0 }), [])
})

const annotations: Annotation[] = [
  { name: '挥手: 较浅肤色', keywords: ['你好', '再见', '手', '较浅肤色'] },
  { name: '挥手: 较深肤色', keywords: ['你好', '再见', '手', '较深肤色'] },
  { name: '猫', keywords: ['宠物', '动物', '猫', '！'] },
  { name: '狗', keywords: ['宠物', '小狗', '猫', '动物'] },
  { name: '旗: 中国', keywords: ['旗'] },
  { name: '按键: #', keywords: ['按键'] },
]

test('captions begin with the name, are short, and belong to one picture each', (t) => {
  const captions = makeCaptions(annotations, { seed: 1, maxCharacters: 16 })
  t.deepEqual(captions, makeCaptions(annotations, { seed: 1, maxCharacters: 16 }))
  t.notDeepEqual(captions, makeCaptions(annotations, { seed: 2, maxCharacters: 16 }))
  captions.forEach((list, i) => {
    t.is(list[0], annotations[i]!.name)
    t.true(list.length >= 3, list.join(' '))
    for (const caption of list) t.true([...caption].length <= 16, caption)
  })
  const all = captions.flat()
  t.is(new Set(all).size, all.length)
  t.true(captions[0]!.includes('较浅肤色的挥手'))
  t.true(captions[4]!.includes('中国的旗帜'))
  t.true(captions[5]!.includes('#按键'))
  // A synonym that no other picture has; what both have, or is another's name, is no caption.
  t.true(captions[3]!.includes('小狗'))
  t.false(all.includes('宠物'))
  t.false(captions[3]!.includes('猫'))
  t.false(all.some((caption) => caption.includes('！')))
  for (const caption of captions[0]!.slice(1)) t.regex(caption, /较浅肤色/)
})
