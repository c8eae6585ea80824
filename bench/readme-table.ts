// Puts the benchmark table, made from bench/results, into the README; --check only says whether it is there already.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Command } from 'commander'

import { readGpuResults } from './gpu/result.ts'
import { gpuTable, readmeTable, withTable } from './readme.ts'
import { readResults } from './result.ts'

const fromHere = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const program = new Command('npm run bench:readme --')
  .description(
    'Writes the benchmark tables of the README from bench/results and bench/results/gpu, between <!-- bench:start --> and <!-- bench:end -->.',
  )
  .option('--check', 'fail where the table is not that of the results, and write nothing', false)
  .option('--readme <path>', 'the file with the markers', fromHere('../README.md'))
  .option('--results <folder>', 'the folder with the results', fromHere('results'))
  .action(async ({ check, readme, results }: { check: boolean; readme: string; results: string }) => {
    try {
      const text = await readFile(readme, 'utf8')
      const gpus = readGpuResults(join(results, 'gpu')).map(gpuTable)
      const wanted = withTable(text, [readmeTable(readResults(results)), ...gpus].join('\n\n'))
      if (wanted === text) return
      if (check)
        throw new Error(
          `The benchmark table of ${readme} is not that of ${results}: run npm run bench:readme`,
        )
      await writeFile(readme, wanted)
    } catch (error) {
      program.error((error as Error).message)
    }
  })
await program.parseAsync()
