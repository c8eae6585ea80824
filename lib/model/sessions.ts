import type { NativeHandle, TaskControl } from '../../types/native.d.ts'
import type {
  NativeDrawOptions,
  NativeImageSession,
  NativeModels,
  NativeTextSession,
} from '../../types/native-models.d.ts'
import { native, stopped } from '../native/binding.ts'
import type { Generator } from './generator.ts'

type TextOptions = Parameters<NativeModels['createTextSession']>[3]

/**
 * Opens a session that draws the pictures of one prompt, `rows` of them, each from its own random stream. Dispose of it; disposing of the
 * generator ends it too, its step then rejects with `ERR_VILG_DISPOSED`. A step that is stopped leaves it where it was.
 *
 * @throws ERR_VILG_OUT_OF_MEMORY where the caches of so many rows do not fit; ERR_VILG_DISPOSED
 */
export function openImageSession(
  generator: Generator,
  text: Int32Array,
  valid: Uint8Array,
  rows: number,
  firstStream: number,
  draw: NativeDrawOptions,
): NativeImageSession {
  generator.life.check()
  const session = native().createImageSession(generator.handle, text, valid, rows, firstStream, draw)
  const tied = tie(generator, session)
  return {
    step: (count, control) => tied.step(count, control),
    dispose: tied.dispose,
    get disposed() {
      return session.disposed
    },
  }
}

/**
 * Opens a session that describes one picture: `rows` texts, or the best of a beam search of that width. As {@link openImageSession} for
 * the rest.
 */
export function openTextSession(
  generator: Generator,
  image: Int32Array,
  rows: number,
  options: TextOptions,
  draw: NativeDrawOptions,
): NativeTextSession {
  generator.life.check()
  const session = native().createTextSession(generator.handle, image, rows, options, draw)
  const tied = tie(generator, session)
  return {
    step: (count, control) => tied.step(count, control),
    texts: () => session.texts(),
    dispose: tied.dispose,
    get disposed() {
      return session.disposed
    },
  }
}

/** What both kinds of sessions have. */
interface Session<Step> extends NativeHandle {
  step(count: number, control?: TaskControl): Promise<Step>
}

/** Ties a session's life to its generator's, which ends its steps and disposes of it. */
function tie<Step>(generator: Generator, session: Session<Step>): Omit<Session<Step>, 'disposed'> {
  const leave = generator.life.adopt(session)
  return {
    step: (count, control = {}) =>
      generator.life.run(async (ending) => {
        // the generator's end raises the caller's flag, or one of our own
        const stop = control.stop ?? new (native().StopFlag)()
        const raise = (): void => stop.raise()
        ending.addEventListener('abort', raise, { once: true })
        try {
          return await session.step(count, { ...control, stop })
        } catch (error) {
          if (error === stopped) generator.life.check() // throws what the caller should see
          throw error
        } finally {
          ending.removeEventListener('abort', raise)
        }
      }),
    dispose: () => {
      leave()
      session.dispose()
    },
  }
}
