/** A binary heap: `pop` gives the entry that comes before all others. */
export class Heap<T> {
  readonly #entries: T[] = []
  readonly #before: (a: T, b: T) => boolean

  /** @param before whether an entry comes out before another */
  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before
  }

  push(entry: T): void {
    const entries = this.#entries
    let place = entries.push(entry) - 1
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!this.#before(entry, entries[parent]!)) break
      entries[place] = entries[parent]!
      place = parent
    }
    entries[place] = entry
  }

  /** The first entry, which is taken out; undefined where there is none. */
  pop(): T | undefined {
    const entries = this.#entries
    const top = entries[0]
    const last = entries.pop()
    if (last === undefined || entries.length === 0) return top
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= entries.length) break
      if (child + 1 < entries.length && this.#before(entries[child + 1]!, entries[child]!)) child++
      if (!this.#before(entries[child]!, last)) break
      entries[place] = entries[child]!
      place = child
    }
    entries[place] = last
    return top
  }
}
