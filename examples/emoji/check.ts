// Prints what the data set holds, and draws a sheet of it: tsx examples/emoji/check.ts [folder for sheet and cache]
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { contactSheet } from '../../lib/data/contact-sheet.ts'
import { writeFileWhole } from '../../lib/data/image.ts'
import { CounterRandom } from '../../lib/data/random.ts'
import { type EmojiItem, loadEmojiDataset } from './dataset.ts'
import { combinationOf } from './held-out.ts'

const folder = process.argv[2] ?? 'out/emoji'
await mkdir(folder, { recursive: true })

const begun = performance.now()
const { train, heldOut } = await loadEmojiDataset({ cacheFolder: folder })
const seconds = (performance.now() - begun) / 1000
const all = [...train, ...heldOut]
const captions = all.flatMap((item) => item.captions)

console.log(`pictures            ${all.length} (${seconds.toFixed(1)} s)`)
console.log(`different names     ${new Set(all.map((item) => item.name)).size}`)
console.log(
  `different pictures  ${new Set(all.map((item) => Buffer.from(item.pixels).toString('latin1'))).size}`,
)
console.log(`in training         ${train.length}`)
console.log(`held out            ${heldOut.length}, of ${countFamilies(heldOut)} families`)
console.log(`captions            ${captions.length}, ${new Set(captions).size} different`)
console.log(`per picture         ${histogram(all.map((item) => item.captions.length))}`)
console.log(`characters in names ${new Set(all.map((item) => item.name).join('')).size} different`)
console.log(`in all captions     ${new Set(captions.join('')).size} different`)
console.log(`only in held out    ${unseenCharacters()}`)
console.log(`white pixels        ${(100 * whiteShare()).toFixed(1)} %`)
console.log('characters, spaces not counted (as many tokens at most, CLS and SEP excepted):')
console.log(`  names             ${histogram(all.map((item) => length(item.name)))}`)
console.log(`  all captions      ${histogram(captions.map(length))}`)

const random = new CounterRandom(3)
await drawSheet('sheet.png', random.shuffled(train).slice(0, 96))
await drawSheet('held-out.png', heldOut)
for (const item of random.shuffled(train).slice(0, 24))
  console.log(`${item.emoji} ${item.captions.join(' | ')}`)

function countFamilies(items: readonly EmojiItem[]): number {
  return new Set(items.map((item) => combinationOf(item.id.toUpperCase()).family)).size
}

function length(caption: string): number {
  return [...caption.replaceAll(' ', '')].length
}

function histogram(values: readonly number[]): string {
  const counts = new Map<number, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  const sorted = [...counts].sort(([a], [b]) => a - b)
  return sorted.map(([value, count]) => `${value}:${count}`).join(' ')
}

function unseenCharacters(): string {
  const seen = new Set(train.flatMap((item) => item.captions).join(''))
  const unseen = [...new Set(heldOut.flatMap((item) => item.captions).join(''))].filter(
    (one) => !seen.has(one),
  )
  return unseen.length === 0 ? 'none' : unseen.join('')
}

function whiteShare(): number {
  let white = 0
  let total = 0
  for (const { pixels } of all) {
    for (let i = 0; i < pixels.length; i += 3) {
      if (pixels[i] === 255 && pixels[i + 1] === 255 && pixels[i + 2] === 255) white++
    }
    total += pixels.length / 3
  }
  return white / total
}

async function drawSheet(name: string, items: readonly EmojiItem[]): Promise<void> {
  const { png, numbered } = await contactSheet(items, {
    columns: 12,
    tileSize: 64,
    captions: items.map((item) => item.name),
  })
  await writeFileWhole(join(folder, name), png)
  console.log(`wrote ${join(folder, name)}${numbered ? ' (numbered: no font here has Chinese)' : ''}`)
}
