import type { Command } from 'commander'
import { VilgError } from '../errors.ts'
import { addOutputOptions } from './arguments.ts'
import type { CliContext } from './context.ts'

/** Adds the command `answer`. */
export function addAnswer(program: Command, _context: CliContext): void {
  const command = program
    .command('answer')
    .summary('answer a question about a picture (not there yet)')
    .description(
      'Visual question answering. Not there yet: it needs a model fine-tuned for it, which this version can neither train nor load. ' +
        'The command always fails with ERR_VILG_UNSUPPORTED and exit code 1; caption describes pictures.',
    )
    .argument('<image>', 'a picture')
    .argument('<question>', 'what to ask')
  addOutputOptions(command).action(() => {
    throw new VilgError(
      'ERR_VILG_UNSUPPORTED',
      'Answering questions needs a model fine-tuned for it, which this version cannot train or load yet; caption describes pictures',
    )
  })
}
