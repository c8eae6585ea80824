import { formatError } from '../format-error.ts'
import type { PickleValue } from './values.ts'

/** The stack of the pickle machine: what lies below the last mark is out of reach. */
export class PickleStack {
  readonly #values: PickleValue[] = []
  /** The number of values at the open marks. */
  readonly #marks: number[] = []

  /** True where nothing is left, no mark either. */
  get empty(): boolean {
    return this.#values.length === 0 && this.#marks.length === 0
  }

  push(value: PickleValue): void {
    this.#values.push(value)
  }

  mark(): void {
    this.#marks.push(this.#values.length)
  }

  /** The value `below` the top one. */
  top(below = 0): PickleValue {
    this.#require(below + 1)
    return this.#values[this.#values.length - 1 - below]!
  }

  pop(): PickleValue {
    this.#require(1)
    return this.#values.pop()!
  }

  /** The last `count` values, in the order in which they were pushed. */
  popCount(count: number): PickleValue[] {
    this.#require(count)
    return this.#values.splice(-count)
  }

  /** The values above the last mark, which goes too. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop()
    if (mark === undefined) throw formatError('Expected a mark on the stack of the pickle, found none')
    return this.#values.splice(mark)
  }

  #require(count: number): void {
    if (this.#values.length - (this.#marks.at(-1) ?? 0) < count) {
      throw formatError(`Expected ${count} values on the stack of the pickle, found fewer`)
    }
  }
}
