import { readdirSync } from 'node:fs'

/** The names of the trials: the files of a folder. */
export function findTrials(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.slice(0, -'.ts'.length))
    .sort()
}

/**
 * Those whose name contains one of the terms, whatever the case; all where there are no terms.
 *
 * @throws Error naming a term that nothing contains, with what there is
 */
export function filterTrials(names: readonly string[], terms: readonly string[]): string[] {
  const wanted = terms.map((term) => term.toLowerCase())
  for (const term of wanted) {
    if (!names.some((name) => name.includes(term))) {
      throw new Error(`Expected part of the name of a trial (${names.join(', ')}), received "${term}"`)
    }
  }
  return names.filter((name) => wanted.length === 0 || wanted.some((term) => name.includes(term)))
}
