import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { VilgError } from '../errors.ts'
import { packageFolder } from '../native/binding.ts'
import { checkSignal } from '../native/call.ts'
import { Lifetime } from '../native/lifetime.ts'
import { PLAIN_SAMPLING, type SamplingDefaults } from '../sampler/options.ts'
import { TextTokenizer } from '../tokenizer/text-tokenizer.ts'
import { expectString, rejectUnknownKeys, typeMismatch } from '../validate.ts'
import {
  BUNDLE_FILE,
  BUNDLE_FOLDERS,
  type BundleInfo,
  bundleText,
  checkBundleInfo,
  readBundle,
  SHIPPED_MODEL,
  type Task,
} from './bundle-file.ts'
import { findMisfit, tasksOf } from './bundle-fit.ts'
import { WEIGHTS_FILE } from './config-file.ts'
import { Generator } from './generator.ts'
import { ImageTokenizer } from './image-tokenizer.ts'
import { Matcher } from './matcher.ts'
import { checkSavePrecision, type LoadOptions, type SaveOptions } from './model.ts'
import { writeDraft, writeFolder } from './model-folder.ts'
import { checkLoadOptions } from './open-model.ts'

/** The parts of a bundle, and what is known of it. */
export interface BundleParts extends Partial<BundleInfo> {
  generator: Generator
  imageTokenizer: ImageTokenizer
  textTokenizer: TextTokenizer
  /** Chooses among what was drawn, where there is one. */
  matcher?: Matcher
}

type Parts = Pick<BundleParts, 'generator' | 'imageTokenizer' | 'textTokenizer' | 'matcher'>

const infoKeys = ['name', 'description', 'trainedFor', 'samplingDefaults'] as const

/**
 * All that drawing and describing need: a generator, the tokenizers of its two halves, and what they were trained for; and a matcher of pictures
 * and texts, where there is one.
 *
 * A bundle is a folder: `bundle.json`, and the folders `generator`, `image-tokenizer`, `text-tokenizer` and `matcher` as the parts save them.
 *
 * ```ts
 * await using model = await ErnieVilg.load()
 * const [image] = await new Sampler(model).textToImage('红苹果')
 * ```
 */
export class ErnieVilg {
  readonly generator: Generator
  readonly imageTokenizer: ImageTokenizer
  readonly textTokenizer: TextTokenizer
  readonly matcher: Matcher | undefined
  readonly name: string
  /** What it draws and describes, in which language, what it was trained on. */
  readonly description: string
  readonly trainedFor: readonly Task[]
  /** How tokens are drawn unless a call says otherwise. */
  readonly samplingDefaults: Readonly<SamplingDefaults>
  readonly #life: Lifetime

  private constructor(parts: Parts, info: BundleInfo) {
    this.generator = parts.generator
    this.imageTokenizer = parts.imageTokenizer
    this.textTokenizer = parts.textTokenizer
    this.matcher = parts.matcher
    this.name = info.name
    this.description = info.description
    this.trainedFor = info.trainedFor
    this.samplingDefaults = info.samplingDefaults
    this.#life = new Lifetime('ErnieVilg', this)
  }

  /**
   * Makes a bundle of parts that fit each other. The bundle owns generator, image tokenizer and matcher from then on: they go with it.
   *
   * @throws ERR_VILG_SHAPE_MISMATCH where vocabularies or grids differ; ERR_VILG_INVALID_ARGUMENT; ERR_VILG_DISPOSED
   */
  static create(parts: BundleParts): ErnieVilg {
    if (parts === undefined) throw typeMismatch('parts', 'an object', parts)
    rejectUnknownKeys('parts', parts, [...Object.keys(BUNDLE_FOLDERS), ...infoKeys])
    const { generator, imageTokenizer, textTokenizer, matcher, ...given } = parts
    if (!(generator instanceof Generator)) throw typeMismatch('generator', 'a Generator', generator)
    if (!(imageTokenizer instanceof ImageTokenizer)) {
      throw typeMismatch('imageTokenizer', 'an ImageTokenizer', imageTokenizer)
    }
    if (!(textTokenizer instanceof TextTokenizer)) {
      throw typeMismatch('textTokenizer', 'a TextTokenizer', textTokenizer)
    }
    if (matcher !== undefined && !(matcher instanceof Matcher)) {
      throw typeMismatch('matcher', 'a Matcher', matcher)
    }
    for (const part of [generator, imageTokenizer, matcher]) part?.life.check()
    const info = checkBundleInfo({
      name: given.name ?? 'unnamed',
      description: given.description ?? '',
      trainedFor: given.trainedFor ?? tasksOf(generator.config),
      samplingDefaults: given.samplingDefaults ?? PLAIN_SAMPLING,
    })
    const own: Parts = { generator, imageTokenizer, textTokenizer, ...(matcher ? { matcher } : {}) }
    const misfit = misfitOf(own, info)
    if (misfit !== undefined) throw new VilgError('ERR_VILG_SHAPE_MISMATCH', misfit)
    return new ErnieVilg(own, info)
  }

  /**
   * Loads a bundle.
   *
   * @param folder the small model that ships with the package unless given
   * @throws ERR_VILG_IO where a file is not there or cannot be read; ERR_VILG_CHECKPOINT_FORMAT where one is damaged;
   *   ERR_VILG_CHECKPOINT_INCOMPATIBLE where the parts do not fit each other, or one does not fit its config; ERR_VILG_OUT_OF_MEMORY;
   *   ERR_VILG_UNSUPPORTED
   */
  static async load(folder?: string, options: LoadOptions = {}): Promise<ErnieVilg> {
    if (folder !== undefined) expectString('folder', folder)
    checkLoadOptions(options)
    options.signal?.throwIfAborted()
    const path = folder ?? join(packageFolder().path, SHIPPED_MODEL)
    const { info, hasMatcher } = await readBundle(path, folder === undefined)
    const textTokenizer = await TextTokenizer.load(join(path, BUNDLE_FOLDERS.textTokenizer))
    const shares = await progressShares(path, hasMatcher)
    const part = (name: keyof typeof shares): LoadOptions => ({
      ...options,
      onProgress: shares[name](options),
    })
    const loaded: { dispose(): Promise<void> }[] = []
    const keep = <T extends { dispose(): Promise<void> }>(one: T): T => (loaded.push(one), one)
    const at = (name: keyof typeof BUNDLE_FOLDERS) => join(path, BUNDLE_FOLDERS[name])
    try {
      const parts: Parts = {
        imageTokenizer: keep(await ImageTokenizer.load(at('imageTokenizer'), part('imageTokenizer'))),
        generator: keep(await Generator.load(at('generator'), part('generator'))),
        textTokenizer,
        ...(hasMatcher ? { matcher: keep(await Matcher.load(at('matcher'), part('matcher'))) } : {}),
      }
      const misfit = misfitOf(parts, info)
      if (misfit !== undefined) {
        throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', `${path}: ${misfit}`, { path })
      }
      return new ErnieVilg(parts, info)
    } catch (error) {
      await Promise.all(loaded.map((one) => one.dispose()))
      throw error
    }
  }

  /**
   * Writes the bundle into a folder, which is made where it is not there; other files in it stay.
   *
   * Until all is written, what was there is untouched, so a full disk or a killed process costs nothing. Then the parts are renamed into
   * place; a process killed between these few renames leaves a folder without `bundle.json`, which does not load, never a mixture.
   *
   * @throws ERR_VILG_IO with the system's reason (no space, no permission); ERR_VILG_DISPOSED
   */
  async save(folder: string, options: SaveOptions = {}): Promise<void> {
    rejectUnknownKeys('save options', options, ['precision', 'signal'])
    checkSavePrecision(options.precision)
    checkSignal(options.signal)
    const path = resolve(expectString('folder', folder))
    await this.#life.run(
      (signal) =>
        writeFolder(path, BUNDLE_FILE, async (draft) => {
          const one = { ...options, signal }
          await this.generator.save(join(draft, BUNDLE_FOLDERS.generator), one)
          await this.imageTokenizer.save(join(draft, BUNDLE_FOLDERS.imageTokenizer), one)
          await this.textTokenizer.save(join(draft, BUNDLE_FOLDERS.textTokenizer))
          await this.matcher?.save(join(draft, BUNDLE_FOLDERS.matcher), one)
          signal.throwIfAborted()
          await writeDraft(join(draft, BUNDLE_FILE), bundleText(this, this.matcher !== undefined))
        }),
      options.signal,
    )
  }

  /** True from the moment dispose() was called. */
  get disposed(): boolean {
    return this.#life.disposed
  }

  /**
   * Frees generator, image tokenizer and matcher. Calls that run or wait reject with `ERR_VILG_DISPOSED`; the promise fulfils when the native work
   * has let go. Later calls return the same promise.
   */
  dispose(): Promise<void> {
    return this.#life.dispose(async () => {
      await Promise.all([this.generator.dispose(), this.imageTokenizer.dispose(), this.matcher?.dispose()])
    })
  }

  /** The same as {@link dispose}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

function misfitOf(
  { generator, imageTokenizer, textTokenizer, matcher }: Parts,
  { trainedFor }: BundleInfo,
): string | undefined {
  return findMisfit({
    generator: generator.config,
    imageTokenizer: imageTokenizer.config,
    textTokenizer,
    matcher: matcher?.config,
    trainedFor,
  })
}

/** Each part's progress as its share of the whole, by the sizes of their files, in the order in which they are loaded. */
async function progressShares(path: string, hasMatcher: boolean) {
  const size = async (part: string): Promise<number> =>
    (await stat(join(path, part, WEIGHTS_FILE)).catch(() => undefined))?.size ?? 1
  const first = await size(BUNDLE_FOLDERS.imageTokenizer)
  const second = first + (await size(BUNDLE_FOLDERS.generator))
  const all = second + (hasMatcher ? await size(BUNDLE_FOLDERS.matcher) : 0)
  const share = (from: number, to: number) => (options: LoadOptions) =>
    options.onProgress &&
    ((event: { phase: 'load'; fraction: number }) =>
      options.onProgress!({ ...event, fraction: (from + (to - from) * event.fraction) / all }))
  return { imageTokenizer: share(0, first), generator: share(first, second), matcher: share(second, all) }
}
