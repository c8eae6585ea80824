import { createHash } from 'node:crypto'

/** SHA-256 of JSON values, in hexadecimal. */
export function fingerprintOf(values: Iterable<unknown>): string {
  const hash = createHash('sha256')
  for (const value of values) hash.update(JSON.stringify(value)).update('\n')
  return hash.digest('hex')
}
