import { setMaxListeners } from 'node:events'

import { VilgError } from '../errors.ts'

// At module level: a registry stored on the object that it watches dies with it and never calls back.
const leaks = new FinalizationRegistry((name: string) => {
  process.emitWarning(
    `A ${name} was garbage collected without dispose(): its native memory was held until now`,
    {
      code: 'VILG_LEAK',
    },
  )
})

/** Something that another object has to dispose first. */
export interface Child {
  dispose(): void | Promise<void>
}

/**
 * The life of one public object with native parts: whether it may still be used, what is in flight, and what has to go before it.
 *
 * ```ts
 * class Generator {
 *   readonly #life = new Lifetime('Generator', this)
 *   forward(...) { return this.#life.run((signal) => callNative({ signal }, ...)) }
 *   dispose() { return this.#life.dispose(() => this.#handle.dispose()) }
 *   [Symbol.asyncDispose]() { return this.dispose() }
 * }
 * ```
 */
export class Lifetime {
  readonly #name: string
  readonly #ending = new AbortController()
  readonly #token = {}
  readonly #inFlight = new Set<Promise<unknown>>()
  // weakly: a parent does not keep its children alive
  readonly #children = new Set<WeakRef<Child>>()
  #disposed = false
  #disposal: Promise<void> = Promise.resolve()

  /**
   * @param name what the object is called in errors
   * @param owner the object; collected without dispose(), it causes a warning with code `VILG_LEAK`
   */
  constructor(name: string, owner: object) {
    this.#name = name
    // one a call in flight: many at once are no leak
    setMaxListeners(0, this.#ending.signal)
    leaks.register(owner, name, this.#token)
  }

  /** True from the moment dispose() was called. */
  get disposed(): boolean {
    return this.#disposed
  }

  /** Throws `ERR_VILG_DISPOSED` after dispose(). */
  check(): void {
    if (this.#disposed) throw this.#disposedError()
  }

  /** Native calls that have not settled yet. */
  get busy(): boolean {
    return this.#inFlight.size > 0
  }

  /**
   * Runs work that dispose() has to end and wait for. `work` gets a signal that aborts when the caller's does or when the object is
   * disposed of (then with `ERR_VILG_DISPOSED` as its reason).
   */
  async run<T>(work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.check()
    signal?.throwIfAborted()
    // not AbortSignal.any: a long-lived signal would collect one dependent a call
    const both = new AbortController()
    const sources = signal ? [signal, this.#ending.signal] : [this.#ending.signal]
    const listeners = sources.map((source) => () => both.abort(source.reason))
    sources.forEach((source, i) => source.addEventListener('abort', listeners[i]!, { once: true }))
    let running: Promise<T> | undefined
    try {
      running = work(both.signal)
      this.#inFlight.add(running)
      return await running
    } finally {
      if (running) this.#inFlight.delete(running)
      sources.forEach((source, i) => source.removeEventListener('abort', listeners[i]!))
    }
  }

  /** Has `child` disposed of before this object. Returns a function for the child to call when it goes by itself. */
  adopt(child: Child): () => void {
    this.check()
    const reference = new WeakRef(child)
    this.#children.add(reference)
    return () => void this.#children.delete(reference)
  }

  /**
   * Ends the object: new calls throw at once, work in flight is aborted and awaited, children go first, then `release` runs. Calls after
   * the first return the first one's promise.
   */
  dispose(release: () => void | Promise<void>): Promise<void> {
    if (!this.#disposed) {
      this.#disposed = true // before the abort below runs listeners that may come back here
      this.#disposal = this.#end(release)
    }
    return this.#disposal
  }

  /** The same at once, for objects whose calls are all synchronous: nothing is in flight, and they have no children. */
  disposeNow(release: () => void): void {
    if (this.#disposed) return
    this.#disposed = true
    leaks.unregister(this.#token)
    release()
  }

  async #end(release: () => void | Promise<void>): Promise<void> {
    leaks.unregister(this.#token)
    this.#ending.abort(this.#disposedError())
    for (const child of this.#children) await child.deref()?.dispose()
    await Promise.allSettled(this.#inFlight)
    await release()
  }

  #disposedError(): VilgError {
    return new VilgError(
      'ERR_VILG_DISPOSED',
      `Expected a living ${this.#name}, received one that was disposed of`,
      {
        object: this.#name,
      },
    )
  }
}
