import { createHash } from 'node:crypto'
import { expectInteger, expectOneOf } from '../../validate.ts'
import { differenceHash, hashDistance } from './difference-hash.ts'
import type { FilterPair, PairRule } from './rule.ts'

/** What has to be the same in a duplicate: the pixels, or the pixels and all captions. */
export const DUPLICATE_KINDS = Object.freeze(['picture', 'pair'] as const)

/** One of {@link DUPLICATE_KINDS}. */
export type DuplicateKind = (typeof DUPLICATE_KINDS)[number]

/**
 * Drops what was there before: pictures with the same decoded pixels, whatever file they come from, or such with the same captions too.
 * The first one stays. 128 bits of SHA-256 a picture are remembered.
 *
 * @param of `picture` unless given
 */
export function duplicateRule(of: DuplicateKind = 'picture'): PairRule {
  expectOneOf('of', of, DUPLICATE_KINDS)
  const known = new Set<string>()
  const digest = ({ captions, image }: FilterPair) => {
    const hash = createHash('sha256').update(`${image.width}x${image.height}\n`).update(image.pixels)
    if (of === 'pair') hash.update(JSON.stringify(captions))
    return hash.digest('base64url').slice(0, 22)
  }
  return {
    name: 'duplicates',
    settings: { of },
    needs: 'picture',
    filter: (pair) => (known.has(digest(pair)) ? [] : pair.captions),
    remember(pair) {
      const mark = digest(pair)
      known.add(mark)
      return mark
    },
    recall: (mark) => void known.add(mark),
  }
}

/**
 * Drops pictures that look like one that was there before: whose {@link differenceHash} differs from that one's in at most `radius` of its 64
 * bits. Finds all of them, not only some: hashes that differ in at most r bits agree in one of r + 1 bands. Pictures without any contrast all
 * look alike to it.
 *
 * @param radius 3 unless given, from 0 to 7
 */
export function nearDuplicateRule(radius = 3): PairRule {
  expectInteger('radius', radius, { min: 0, max: 7 })
  const known = new NearHashes(radius)
  return {
    name: 'near-duplicates',
    settings: { radius },
    needs: 'picture',
    filter: ({ captions, image }) => (known.hasNear(differenceHash(image)) ? [] : captions),
    remember({ image }) {
      const hash = differenceHash(image)
      known.add(hash)
      return hash.map((half) => half.toString(16).padStart(8, '0')).join('')
    },
    recall: (mark) => known.add([parseInt(mark.slice(0, 8), 16), parseInt(mark.slice(8), 16)]),
  }
}

type Hash = [number, number]

/** Hashes by each of their bands. */
class NearHashes {
  readonly #radius: number
  readonly #bands: Map<bigint, Hash[]>[]

  constructor(radius: number) {
    this.#radius = radius
    this.#bands = Array.from({ length: radius + 1 }, () => new Map<bigint, Hash[]>())
  }

  add(hash: Hash): void {
    for (const [i, band] of this.#bands.entries()) {
      const key = this.#key(hash, i)
      const there = band.get(key)
      if (there === undefined) band.set(key, [hash])
      else there.push(hash)
    }
  }

  hasNear(hash: Hash): boolean {
    return this.#bands.some((band, i) =>
      (band.get(this.#key(hash, i)) ?? []).some((other) => hashDistance(hash, other) <= this.#radius),
    )
  }

  /** The bits of a band: band i has those from 64 i / bands on. */
  #key([high, low]: Hash, band: number): bigint {
    const bits = (BigInt(high) << 32n) | BigInt(low)
    const first = Math.floor((64 * band) / this.#bands.length)
    const end = Math.floor((64 * (band + 1)) / this.#bands.length)
    return (bits >> BigInt(first)) & ((1n << BigInt(end - first)) - 1n)
  }
}
