import { readFile, stat } from 'node:fs/promises'
import { parse } from 'yaml'
import { VilgError } from '../errors.ts'
import { describeValue } from '../validate.ts'

// Configuration files are some kilobytes
const maxBytes = 2 ** 20

/**
 * Reads an object of a YAML file, of which JSON files are a kind.
 *
 * @throws ERR_VILG_IO; ERR_VILG_CHECKPOINT_FORMAT for other content
 */
export async function readYaml(path: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    const { size } = await stat(path)
    if (size > maxBytes) throw new Error(`it has ${size} bytes, which no configuration has`)
    text = await readFile(path, 'utf8')
  } catch (cause) {
    const message = `Cannot read the configuration ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_IO', message, { path }, { cause })
  }
  let value: unknown
  try {
    value = parse(text)
  } catch (cause) {
    const message = `Expected YAML in ${path}: ${(cause as Error).message}`
    throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path }, { cause })
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  const message = `Expected an object in ${path}, found ${describeValue(value)}`
  throw new VilgError('ERR_VILG_CHECKPOINT_FORMAT', message, { path })
}
