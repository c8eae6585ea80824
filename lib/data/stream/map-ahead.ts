/**
 * Gives `work(item)` for every item, in their order, with `ahead` of them begun before they are asked for. An error of `work` comes in its
 * item's turn.
 */
export async function* mapAhead<In, Out>(
  input: AsyncIterable<In>,
  ahead: number,
  work: (item: In) => Promise<Out>,
): AsyncGenerator<Out, void, undefined> {
  const items = input[Symbol.asyncIterator]()
  const begun: Promise<Out>[] = []
  let isOver = false
  try {
    for (;;) {
      while (!isOver && begun.length < ahead) {
        const next = await items.next()
        if (next.done === true) isOver = true
        else {
          const result = work(next.value)
          result.catch(() => {}) // told in its turn, or nobody waits any more
          begun.push(result)
        }
      }
      const first = begun.shift()
      if (first === undefined) return
      yield await first
    }
  } finally {
    await Promise.allSettled(begun)
    await items.return?.()
  }
}
