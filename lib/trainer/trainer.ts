import type { StopFlag } from '../../types/native.d.ts'
import { VilgError } from '../errors.ts'
import type { GeneratorConfig } from '../model/generator-config.ts'
import { Generator } from '../model/generator.ts'
import type { ImageTokenizerConfig } from '../model/image-tokenizer-config.ts'
import { ImageTokenizer } from '../model/image-tokenizer.ts'
import type { MatcherConfig } from '../model/matcher-config.ts'
import { Matcher } from '../model/matcher.ts'
import type { CreateOptions } from '../model/model.ts'
import { native } from '../native/binding.ts'
import { expectString, rejectUnknownKeys, typeMismatch } from '../validate.ts'
import { type CheckpointHeader, readCheckpoint } from './checkpoint.ts'
import { type GeneratorBatch, GeneratorLearner } from './generator-learner.ts'
import { DvaeLearner } from './dvae-learner.ts'
import { ImageTokenizerLearner, vqganNotes, vqganTraining } from './image-tokenizer-learner.ts'
import { optimizerOptions } from './learner.ts'
import { MatcherLearner } from './matcher-learner.ts'
import { resolveTrainerOptions, type TrainerOptions, trainerOptionKeys } from './options.ts'
import type { TrainableDvae, TrainableVqgan } from './picture-learner.ts'
import {
  type Disposable,
  type DvaeStep,
  type GeneratorStep,
  type ImageTokenizerStep,
  type MatcherStep,
  type TrainerParts,
  type TrainerStep,
  TrainingLoop,
} from './training-loop.ts'

/** What can be trained. */
export type TrainerTarget = Generator | ImageTokenizer | Matcher

/** Options of {@link Trainer.resume}: where to go on, and options that shall differ from the saved ones. */
export interface ResumeOptions extends TrainerOptions {
  /** `auto` unless given. */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
}

/** A trainer of a generator, an image tokenizer or a matcher, by the type of its steps. */
export type Trainer<Step extends TrainerStep = TrainerStep> = TrainingLoop<
  Step,
  Step extends ImageTokenizerStep | DvaeStep ? ImageTokenizer : Step extends MatcherStep ? Matcher : Generator
>

/** The class {@link Trainer}: its constructor, which tells targets apart, and its factory. */
export interface TrainerClass {
  /**
   * Trains `target`, whose weights change in place. They must be float32, whatever precision the products have. Of an image tokenizer
   * that is a dvae, the steps are {@link DvaeStep}s: `new Trainer<DvaeStep>(dvae)`.
   *
   * @throws `ERR_VILG_UNSUPPORTED` for weights of another type, and for targets that cannot be trained
   */
  new (target: Generator, options?: TrainerOptions): Trainer<GeneratorStep>
  new (target: Matcher, options?: TrainerOptions): Trainer<MatcherStep>
  new <Step extends ImageTokenizerStep | DvaeStep = ImageTokenizerStep>(
    target: ImageTokenizer,
    options?: TrainerOptions,
  ): Trainer<Step>
  /**
   * Goes on from what {@link TrainingLoop.save} wrote, bit for bit as if there had been no break, if the device is the same and
   * no option is changed. The trainer makes its target, which goes with it when it is disposed of.
   */
  resume<Step extends TrainerStep = TrainerStep>(
    folder: string,
    options?: ResumeOptions,
  ): Promise<Trainer<Step>>
  readonly prototype: TrainingLoop<TrainerStep>
  [Symbol.hasInstance](value: unknown): boolean
}

type AnyLoop = TrainingLoop<TrainerStep, TrainerTarget>

class TargetTrainer extends TrainingLoop<TrainerStep, TrainerTarget> {
  constructor(target: TrainerTarget, options?: TrainerOptions) {
    super(partsOf(target, options, false) as TrainerParts<TrainerStep, TrainerTarget>)
  }

  static async resume(folder: string, options: ResumeOptions = {}): Promise<AnyLoop> {
    expectString('folder', folder)
    const { header, statePath } = await readCheckpoint(folder)
    const allowed = [...trainerOptionKeys(header.kind), 'device']
    rejectUnknownKeys(`resume options (${header.kind})`, options, allowed)
    const { device, ...changes } = options
    const create = { precision: 'float32', ...(device === undefined ? {} : { device }) } as const
    const target = await createTarget(header, create)
    let trainer: AnyLoop | undefined
    try {
      const parts = partsOf(target, { ...header.options, ...changes }, true)
      trainer = new TrainingLoop(parts as TrainerParts<TrainerStep, TrainerTarget>, header.lastLoss)
      await parts.learner.native.loadState(statePath)
      if (trainer.step !== header.step) {
        const text = `Expected the state of step ${header.step} in ${statePath}, found that of step ${trainer.step}`
        throw new VilgError('ERR_VILG_CHECKPOINT_INCOMPATIBLE', text, { path: statePath })
      }
      trainer.lastCheckpoint = folder
      return trainer
    } catch (error) {
      await (trainer ?? target).dispose()
      throw error
    }
  }

  // A resumed trainer is made of parts, and is a Trainer all the same.
  static override [Symbol.hasInstance](value: unknown): boolean {
    return Function.prototype[Symbol.hasInstance].call(TrainingLoop, value)
  }
}
Object.defineProperty(TargetTrainer, 'name', { value: 'Trainer' })

/** A fresh model of the kind and config of a checkpoint. */
function createTarget({ kind, model }: CheckpointHeader, options: CreateOptions): Promise<TrainerTarget> {
  if (kind === 'generator') return Generator.create(model as unknown as GeneratorConfig, options)
  if (kind === 'matcher') return Matcher.create(model as unknown as MatcherConfig, options)
  return ImageTokenizer.create(model as unknown as ImageTokenizerConfig, options)
}

/** Trains a {@link Generator}, an {@link ImageTokenizer} or a {@link Matcher}. */
export const Trainer = TargetTrainer as unknown as TrainerClass

/**
 * The forward and backward pass of a generator's training alone, for measurements: gradients add up until it is disposed of, which has to
 * happen before the generator goes. @internal
 */
export function gradientAccumulator(generator: Generator, options: TrainerOptions) {
  const resolved = resolveTrainerOptions('generator', options)
  generator.life.check()
  const core = native().createGeneratorTrainer(generator.handle, optimizerOptions(resolved))
  const learner = new GeneratorLearner(core, generator, resolved)
  return {
    accumulate: (batch: GeneratorBatch) => learner.accumulate([batch], {}),
    dispose: () => core.dispose(),
  }
}

function partsOf(target: TrainerTarget, options: TrainerOptions | undefined, owned: boolean) {
  const common = {
    newStopFlag: (): StopFlag => new (native().StopFlag)(),
    owned,
    adopt: (trainer: Disposable) => target.life.adopt(trainer),
  }
  if (target instanceof Generator) {
    const resolved = resolveTrainerOptions('generator', options)
    target.life.check()
    const core = native().createGeneratorTrainer(target.handle, optimizerOptions(resolved))
    const learner = new GeneratorLearner(core, target, resolved)
    return { ...common, target, learner, options: resolved, model: { ...target.config } }
  }
  if (target instanceof Matcher) {
    const resolved = resolveTrainerOptions('matcher', options)
    target.life.check()
    const core = native().createMatcherTrainer(target.handle, optimizerOptions(resolved))
    const learner = new MatcherLearner(core, target)
    return { ...common, target, learner, options: resolved, model: { ...target.config } }
  }
  if (target instanceof ImageTokenizer) {
    const model = { ...target.config }
    const isDvae = target.config.model === 'dvae'
    const resolved = resolveTrainerOptions(isDvae ? 'dvae' : 'image-tokenizer', options)
    const shared = { ...common, target, options: resolved, model }
    target.life.check()
    if (isDvae) {
      const core = native().createDvaeTrainer(target.handle, optimizerOptions(resolved))
      const dvae = target as TrainableDvae
      return { ...shared, learner: new DvaeLearner(core, dvae, resolved) }
    }
    const core = native().createImageTokenizerTrainer(
      target.handle,
      optimizerOptions(resolved),
      vqganTraining(resolved),
    )
    const vqgan = target as TrainableVqgan
    return {
      ...shared,
      learner: new ImageTokenizerLearner(core, vqgan, resolved),
      notes: vqganNotes(resolved),
    }
  }
  if ((target as { generator?: unknown } | undefined)?.generator instanceof Generator) {
    const text =
      'Training a generator and a reconstructor end to end is not there yet. Train the image tokenizer first, then the generator'
    throw new VilgError('ERR_VILG_UNSUPPORTED', text)
  }
  throw typeMismatch('target', 'a Generator, an ImageTokenizer or a Matcher', target)
}
