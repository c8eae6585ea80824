/** Runs work one after the other, in the order of the calls. A failure does not touch what comes after it. */
export class CallQueue {
  #tail: Promise<unknown> = Promise.resolve()

  /**
   * Runs `work` when everything before it has settled. Where `signal` aborts earlier, rejects with its reason at once and never runs it.
   */
  run<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const previous = this.#tail
    const result = turn(previous, signal).then(work)
    // whoever gives up waiting does not let the next one past what is still running
    this.#tail = Promise.allSettled([previous, result])
    return result
  }
}

async function turn(previous: Promise<unknown>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return void (await previous)
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const abort = (): void => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    void previous.then(() => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
  })
}
