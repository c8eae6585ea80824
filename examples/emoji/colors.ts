import type { RgbImage } from '../../lib/data/image.ts'

/** Names of hues, by where they end on the circle of 360 degrees. */
const hues: readonly (readonly [number, string])[] = [
  [14, '红色'],
  [40, '橙色'],
  [68, '黄色'],
  [165, '绿色'],
  [255, '蓝色'],
  [300, '紫色'],
  [342, '粉色'],
  [360, '红色'],
]
const leastShare = 0.6
const leastPixels = 0.05

/**
 * The colour that takes at least 60 % of what is not white in a picture; undefined where none does. Black and grey are colours, too,
 * and a dark orange is brown.
 */
export function dominantColor({ pixels, width, height }: RgbImage): string | undefined {
  const counts = new Map<string, number>()
  let colored = 0
  for (let i = 0; i < pixels.length; i += 3) {
    const name = colorName(pixels[i]!, pixels[i + 1]!, pixels[i + 2]!)
    if (name === undefined) continue
    colored++
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  if (colored < leastPixels * width * height) return undefined
  const [name, count] = [...counts].reduce((most, one) => (one[1] > most[1] ? one : most))
  return count >= leastShare * colored ? name : undefined
}

/** The name of a colour of three bytes, undefined for white. */
export function colorName(red: number, green: number, blue: number): string | undefined {
  const most = Math.max(red, green, blue)
  const range = most - Math.min(red, green, blue)
  const saturation = most === 0 ? 0 : range / most
  if (most > 225 && saturation < 0.12) return undefined
  if (most < 60) return '黑色'
  if (saturation < 0.2) return '灰色'
  const sector =
    most === red
      ? ((green - blue) / range + 6) % 6
      : most === green
        ? (blue - red) / range + 2
        : (red - green) / range + 4
  const [, name] = hues.find(([end]) => sector * 60 <= end)!
  if ((name === '橙色' || name === '红色') && sector < 1 && most < 180 && saturation < 0.85) return '棕色'
  return name
}
