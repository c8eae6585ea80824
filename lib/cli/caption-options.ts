import type { Command } from 'commander'
import type { ImageToTextOptions } from '../sampler/options.ts'
import { addDrawOptions, type DrawFlags, drawOptions, integer, number } from './arguments.ts'

/** How texts about a picture are found. */
export interface CaptionFlags extends DrawFlags {
  count: number
  beams?: number
  lengthPenalty?: number
}

/** Adds the options of `caption` and `answer`; `texts` names what they give. */
export function addCaptionOptions(command: Command, texts: string): void {
  command
    .option('-n, --count <integer>', `${texts} of each picture`, integer(1, 64), 1)
    .option(
      '--beams <integer>',
      'width of the beam search (default: 4, or --count where that is more)',
      integer(1, 64),
    )
    .option(
      '--length-penalty <number>',
      'rank beams by log-probability / length^penalty (default: 0)',
      number({ min: -10, max: 10 }),
    )
  addDrawOptions(command)
}

/** The options of the sampler that the flags ask for; ends the command where they contradict each other. */
export function captionOptions(command: Command, flags: CaptionFlags): ImageToTextOptions {
  const { count, beams, lengthPenalty } = flags
  const drawing = drawOptions(flags)
  if (beams !== undefined && beams < count)
    command.error(`error: --beams ${beams} is less than --count ${count}`)
  if ((beams !== undefined || lengthPenalty !== undefined) && Object.keys(drawing).length > 0) {
    command.error(
      'error: --beams and --length-penalty are for the beam search, the other options sample: give one kind',
    )
  }
  return {
    ...drawing,
    count,
    ...(beams === undefined ? {} : { beams }),
    ...(lengthPenalty === undefined ? {} : { lengthPenalty }),
  }
}
