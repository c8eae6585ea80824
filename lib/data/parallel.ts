const workersAtOnce = 4 // libuv has four threads for files and decoding

/** Runs `work` on every item, four at a time, begun in order. Rejects with the first error; no further item is begun then. */
export async function eachInParallel<T>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const index = next++
      try {
        await work(items[index]!, index)
      } catch (error) {
        next = items.length
        throw error
      }
    }
  }
  await Promise.all(Array.from({ length: workersAtOnce }, worker))
}
