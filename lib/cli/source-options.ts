import { type Command, Option } from 'commander'
import { type OpenSourceOptions, SOURCE_FORMATS, type SourceFormat } from '../data/sources/open-source.ts'
import { BROKEN_POLICIES, type BrokenPolicy } from '../data/stream/sample-stream.ts'

/** What {@link addSourceOptions} adds. */
export interface SourceFlags {
  format?: SourceFormat
  image?: string
  caption?: string
  onBroken: BrokenPolicy
}

/** `--format`, `--image`, `--caption` and `--on-broken`, of every command that reads sources. */
export function addSourceOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--format <name>', 'what the data is (default: found out by what lies there)').choices([
        ...SOURCE_FORMATS,
      ]),
    )
    .option('--image <name>', 'field or column of the picture (default: file in lists, image in Parquet)')
    .option('--caption <name>', 'field or column of the captions (default: texts, text or caption)')
    .addOption(
      new Option('--on-broken <what>', 'skip and list what cannot be used, or end with the first one')
        .choices([...BROKEN_POLICIES])
        .default('skip'),
    )
}

/** The options of a source that flags ask for. */
export function sourceOptions({ format, image, caption }: SourceFlags): OpenSourceOptions {
  return {
    ...(format === undefined ? {} : { format }),
    ...(image === undefined ? {} : { image }),
    ...(caption === undefined ? {} : { caption }),
  }
}
