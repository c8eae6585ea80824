const signalNames = ['SIGINT', 'SIGTERM'] as const

/** What an {@link interruptible} run is aborted with. */
export class InterruptedError extends Error {
  /** The signal that came. */
  readonly signal: NodeJS.Signals

  constructor(signal: NodeJS.Signals) {
    super(`Interrupted by ${signal}`)
    this.name = 'InterruptedError'
    this.signal = signal
  }
}

/**
 * Runs `work` with an AbortSignal that Ctrl-C and SIGTERM raise, so that it can save what it has. A second one ends the process
 * at once, as it would have without this.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const interrupt = (name: NodeJS.Signals) => {
    stopListening()
    controller.abort(new InterruptedError(name))
  }
  const stopListening = () => signalNames.forEach((name) => process.off(name, interrupt))
  signalNames.forEach((name) => process.on(name, interrupt))
  try {
    return await work(controller.signal)
  } finally {
    stopListening()
  }
}
