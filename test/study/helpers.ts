import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import {
  createStudy,
  type CreateStudyOptions,
  type Criterion,
  type StudyItem,
  type StudyKey,
} from '../../lib/study/index.ts'
import { Session } from '../../lib/study/page/session.js'
import type { PageStudy } from '../../lib/study/page-study.ts'
import { temporaryFolder } from '../model/helpers.ts'
import { picture } from '../sampler/bundle.ts'

/** A study that was written to a temporary folder. */
export interface MadeStudy {
  folder: string
  page: string
  keyFile: string
  html: string
  study: PageStudy
  key: StudyKey
  warnings: string[]
}

/** Texts with a picture of each system. */
export function drawnItems(count: number, systems: readonly string[]): StudyItem[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `item-${i}`,
    text: `text number ${i}`,
    angle: i % 2 === 0 ? 'style' : 'view',
    responses: Object.fromEntries(systems.map((system, s) => [system, picture(10 * i + s)])),
  }))
}

export async function makeStudy(
  t: ExecutionContext,
  options: Omit<CreateStudyOptions, 'page' | 'key'>,
): Promise<MadeStudy> {
  const folder = await temporaryFolder(t)
  const [page, keyFile] = [join(folder, 'study.html'), join(folder, 'study.key.json')]
  const { key, warnings } = await createStudy({ seed: 1, ...options, page, key: keyFile })
  const html = await readFile(page, 'utf8')
  return { folder, page, keyFile, html, study: pageStudy(html), key, warnings }
}

/** The data of a page. */
export function pageStudy(html: string): PageStudy {
  return JSON.parse(
    /<script type="application\/json" id="study">(.*?)<\/script>/s.exec(html)![1]!,
  ) as PageStudy
}

/** What is behind a question, for a rater who knows the key. */
export interface Asked {
  item: string
  systems: readonly string[]
  criterion: Criterion
}

/**
 * Answers a study as its page does, and writes the results file.
 *
 * @param answer a rating, a verdict, or of pairs the system to choose; undefined leaves the question out
 * @returns the path of the file
 */
export async function rate(
  { study, key, folder }: MadeStudy,
  rater: string,
  answer: (asked: Asked) => number | string | undefined,
): Promise<string> {
  const session = new Session(study, rater)
  for (const unit of session.units) {
    const { item, systems } = key.units[unit.id]!
    for (const criterion of study.criteria) {
      const given = answer({ item, systems, criterion })
      if (given === undefined) continue
      const isChoice = criterion.kind === 'choice'
      session.answer(unit, criterion, isChoice ? (systems[0] === given ? 'a' : 'b') : given)
      session.addSeconds(unit, 2)
    }
  }
  const path = join(folder, `${rater}.json`)
  await writeFile(path, JSON.stringify(session.results()))
  return path
}
