/**
 * A 32-bit hash of a text: FNV-1a over its UTF-16 units, from one of several starting values.
 *
 * @param {string} text
 * @param {number} start
 */
function hashText(text, start) {
  let hash = (0x811c9dc5 ^ start) >>> 0
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0
  return hash
}

/**
 * Random numbers that a text decides: Doty-Humphrey's sfc32 (PractRand), after the rounds it needs to mix its seed.
 *
 * @param {string} seed
 * @returns {() => number} unsigned 32-bit integers
 */
export function seededRandom(seed) {
  let [a, b, c, counter] = [hashText(seed, 1), hashText(seed, 2), hashText(seed, 3), 1]
  const next = () => {
    const sum = (a + b + counter++) >>> 0
    a = (b ^ (b >>> 9)) >>> 0
    b = (c + (c << 3)) >>> 0
    c = (((c << 21) | (c >>> 11)) + sum) >>> 0
    return sum
  }
  for (let round = 0; round < 15; round++) next()
  return next
}

/**
 * A copy in random order (Fisher-Yates).
 *
 * @template T
 * @param {readonly T[]} values
 * @param {() => number} random unsigned 32-bit integers
 * @returns {T[]}
 */
export function shuffled(values, random) {
  const result = [...values]
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor((random() / 2 ** 32) * (last + 1))
    const kept = /** @type {T} */ (result[last])
    result[last] = /** @type {T} */ (result[other])
    result[other] = kept
  }
  return result
}
