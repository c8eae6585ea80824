import test from 'ava'
import { characterRule, nounRule, wordCountRule } from '../../../lib/data/filters/caption-rules.ts'
import { differenceHash, hashDistance } from '../../../lib/data/filters/difference-hash.ts'
import { duplicateRule, nearDuplicateRule } from '../../../lib/data/filters/duplicate-rules.ts'
import { FilterChain } from '../../../lib/data/filters/filter-chain.ts'
import { filterTable } from '../../../lib/data/filters/filter-report.ts'
import type { PairRule } from '../../../lib/data/filters/rule.ts'
import { makeRules, RULE_NAMES } from '../../../lib/data/filters/rules.ts'
import { similarityRule } from '../../../lib/data/filters/similarity-rule.ts'
import { jiebaSegmenter, wordsOf } from '../../../lib/data/filters/words.ts'
import type { RgbImage } from '../../../lib/data/image.ts'
import { CounterRandom } from '../../../lib/data/random.ts'

const invalid = { code: 'ERR_VILG_INVALID_ARGUMENT' }

/** A picture of 72 x 64 pixels, whose grey at x, y is given. */
function grey(value: (x: number, y: number) => number, width = 72, height = 64): RgbImage {
  const pixels = new Uint8Array(width * height * 3)
  for (let i = 0; i < width * height; i++) {
    pixels.fill(value(i % width, Math.floor(i / width)), i * 3, i * 3 + 3)
  }
  return { pixels, width, height }
}

const random = new CounterRandom(1)
const noise = (seed: number) =>
  grey((x, y) => random.at(seed * 10_000 + Math.floor(y / 8) * 9 + Math.floor(x / 8)) % 256)

test('the paper: fewer than 15 words, punctuation not counted', async (t) => {
  const segment = await jiebaSegmenter()
  const words = (count: number) => Array.from({ length: count }, () => '苹果').join('，') + '！'
  t.is(wordsOf(segment(words(14))).length, 14)
  const rule = wordCountRule(segment)
  t.true(rule.allows(words(14)))
  t.false(rule.allows(words(15)))
  t.true(wordCountRule(segment, 16).allows(words(15)))
  t.false(rule.allows('a photo of a very large dog that sits on a red sofa in the living room of a house'))
  t.throws(() => wordCountRule(segment, 1), invalid)
})

test('the paper: at least one noun', async (t) => {
  const rule = nounRule(await jiebaSegmenter())
  for (const caption of ['一只小猫', '红苹果', '北京', 'iPhone 12', '可爱的沙发'])
    t.true(rule.allows(caption), caption)
  for (const caption of ['奔跑', '非常高兴', '12', '！！！', '很好看的'])
    t.false(rule.allows(caption), caption)
})

test('the paper: no special characters', (t) => {
  const rule = characterRule()
  for (const caption of [
    '一只猫，坐在“沙发”上。',
    'Cat & dog (2), 50%!',
    '《红楼梦》——第1回…',
    'café',
    '３只',
  ])
    t.true(rule.allows(caption), caption)
  for (const caption of [
    '猫🙂',
    '<b>猫</b>',
    '猫#1',
    '猫\u0000',
    '猫\ufffd',
    '★猫★',
    'a@b',
    '猫_狗',
    'a|b',
    '猫\n狗',
    '猫\t',
  ])
    t.false(rule.allows(caption), JSON.stringify(caption))
})

test('similarity: above 0.5, a caption each; scores that are none are errors', async (t) => {
  const scores: Record<string, number> = { low: 0.2, half: 0.5, high: 0.51 }
  const image = grey(() => 0)
  const matcher = {
    name: 'fake 1',
    score: (_: RgbImage, captions: readonly string[]) => captions.map((one) => scores[one]!),
  }
  const rule = similarityRule(matcher)
  t.deepEqual(await rule.filter({ id: '1', captions: ['low', 'half', 'high'], image }), ['high'])
  t.deepEqual(rule.settings, { matcher: 'fake 1', above: 0.5 })
  for (const bad of [1.5, -0.1, NaN, undefined]) {
    scores['bad'] = bad!
    await t.throwsAsync(async () => rule.filter({ id: 'x', captions: ['bad'], image }), {
      ...invalid,
      message: /of x from the matcher fake 1/,
    })
  }
  t.throws(() => similarityRule(matcher, 2), invalid)
})

test('the difference hash: by hand, and of the same picture in other sizes and brightness', (t) => {
  t.deepEqual(differenceHash(grey((x) => 255 - x)), [0xffffffff, 0xffffffff])
  t.deepEqual(differenceHash(grey((x) => x)), [0, 0])
  // rows by turns falling and rising
  t.deepEqual(
    differenceHash(grey((x, y) => (Math.floor(y / 8) % 2 === 0 ? 200 - x : x))),
    [0xff00ff00, 0xff00ff00],
  )
  // brighter in the fourth cell of nine: it falls behind it, the fourth bit of each row
  t.deepEqual(differenceHash(grey((x) => (Math.floor(x / 8) === 3 ? 9 : 0))), [0x10101010, 0x10101010])
  t.is(hashDistance([0xff, 0], [0, 0x80000001]), 10)
  t.is(hashDistance([0xffffffff, 0xffffffff], [0, 0]), 64)
  const values = (x: number, y: number) => 100 + 80 * Math.sin(x * 6) * Math.cos(y * 5)
  const [width, height] = [180, 160]
  const hash = differenceHash(grey((x, y) => values(x / 72, y / 64)))
  t.true(
    hashDistance(hash, differenceHash(grey((x, y) => values(x / width, y / height), width, height))) <= 3,
  )
  t.true(hashDistance(hash, differenceHash(grey((x, y) => values(x / 72, y / 64) / 2 + 60))) <= 3)
  t.true(hashDistance(hash, differenceHash(noise(1))) > 10)
  t.deepEqual(differenceHash(grey(() => 5, 1, 1)), [0, 0], 'a single pixel')
})

/** Runs pairs through a rule as a chain does, and says which stay. */
async function kept(
  rule: PairRule,
  images: readonly RgbImage[],
  captions = images.map(() => 'c'),
): Promise<number[]> {
  const chain = new FilterChain([rule])
  const left: number[] = []
  for (const [i, image] of images.entries()) {
    const pair = { id: String(i), captions: [captions[i]!], image }
    if ((await chain.filterPair(pair)).length === 0) continue
    chain.remember(pair)
    left.push(i)
  }
  return left
}

test('duplicates: the same pixels, or the same pixels and captions', async (t) => {
  const [a, b] = [noise(1), noise(2)]
  const images = [a, b, a, a, b]
  t.deepEqual(await kept(duplicateRule(), images), [0, 1])
  t.deepEqual(await kept(duplicateRule('pair'), images, ['x', 'x', 'y', 'x', 'x']), [0, 1, 2])
  // of the same bytes, but another shape
  t.deepEqual(await kept(duplicateRule(), [grey(() => 1, 2, 8), grey(() => 1, 4, 4)]), [0, 1])
  t.throws(() => duplicateRule('image' as never), invalid)
})

test('near duplicates: all within the radius, as comparing with every one finds them', async (t) => {
  // pictures of 9 x 8 pixels, each of them with some of its bits turned over
  const images: RgbImage[] = []
  for (let i = 0; i < 300; i++) {
    const flipped = new Set(
      Array.from({ length: random.at(500_000 + i) % 7 }, (_, j) => random.at(600_000 + i * 10 + j) % 64),
    )
    const base = i % 5
    images.push(
      grey(
        (x, y) => {
          let value = 100
          for (let at = 0; at < x; at++) {
            const bit = y * 8 + at
            const falls = (random.at(base * 100 + bit) % 2 === 1) !== flipped.has(bit)
            value += falls ? -9 : 9
          }
          return value
        },
        9,
        8,
      ),
    )
  }
  for (const radius of [0, 1, 3, 7]) {
    const expected: number[] = []
    const hashes = images.map(differenceHash)
    for (const [i, hash] of hashes.entries()) {
      if (expected.every((other) => hashDistance(hashes[other]!, hash) > radius)) expected.push(i)
    }
    t.true(expected.length < 300 && expected.length >= 5)
    t.deepEqual(await kept(nearDuplicateRule(radius), images), expected, `${radius}`)
  }
  t.throws(() => nearDuplicateRule(8), invalid)
})

test('what a rule remembers can be recalled by the rule of a later run', async (t) => {
  for (const make of [duplicateRule, () => nearDuplicateRule()]) {
    const first = new FilterChain([make()])
    const pair = { id: '1', captions: ['c'], image: noise(3) }
    t.is((await first.filterPair(pair)).length, 1)
    t.is((await first.filterPair(pair)).length, 1, 'not remembered yet')
    const marks = first.remember(pair)
    t.is((await first.filterPair(pair)).length, 0)
    const second = new FilterChain([make()])
    second.recall(JSON.parse(JSON.stringify(marks)) as Record<string, string>)
    t.is((await second.filterPair(pair)).length, 0)
    t.is((await second.filterPair({ ...pair, image: noise(4) })).length, 1)
  }
})

test('a chain asks in order, counts what each rule drops, and only what has had its turn', async (t) => {
  const short = {
    name: 'short',
    settings: { most: 3 },
    needs: 'captions',
    allows: (one: string) => one.length <= 3,
  } as const
  const noX = {
    name: 'no x',
    settings: {},
    needs: 'captions',
    allows: (one: string) => !one.includes('x'),
  } as const
  const chain = new FilterChain([duplicateRule(), short, noX])
  t.deepEqual(Object.keys(chain.settings), ['short', 'no x', 'duplicates'])
  const first = chain.filterCaptions({ id: '1', captions: ['long caption x', 'abx', 'abc'] })
  t.deepEqual(first.captions, ['abc'])
  const second = chain.filterCaptions({ id: '2', captions: ['long caption x'] })
  t.deepEqual(second.captions, [])
  t.deepEqual(chain.takeCounts()['short'], { samples: 0, captions: 0 })
  first.count()
  second.count()
  const image = noise(5)
  const pair = { id: '1', captions: first.captions, image }
  await chain.filterPair(pair)
  chain.remember(pair)
  await chain.filterPair({ ...pair, captions: ['a', 'b'] })
  const dropped = chain.takeCounts()
  t.deepEqual(dropped, {
    short: { samples: 1, captions: 2 },
    'no x': { samples: 0, captions: 1 },
    duplicates: { samples: 1, captions: 2 },
  })
  t.deepEqual(chain.takeCounts()['duplicates'], { samples: 0, captions: 0 })
  t.is(
    filterTable({ read: 8, kept: 5, broken: 1, dropped }),
    [
      '                       samples    share  captions',
      'read                         8  100.0 %',
      'broken                       1   12.5 %',
      'dropped by short             1   12.5 %         2',
      'dropped by no x              0    0.0 %         1',
      'dropped by duplicates        1   12.5 %         2',
      'kept                         5   62.5 %',
    ].join('\n'),
  )
  t.throws(() => new FilterChain([short, short]), { ...invalid, message: /different names/ })
})

test('rules by name', async (t) => {
  const rules = await makeRules(RULE_NAMES)
  t.deepEqual(
    rules.map(({ name }) => name),
    [...RULE_NAMES],
  )
  await t.throwsAsync(makeRules(['noun' as never]), { ...invalid, message: /"nouns"/ })
})
