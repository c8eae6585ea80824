// Compiled by npm run check:types, never run: what the public types of ernie-vilg/study promise, and what they refuse.
import {
  analyzeStudy,
  createStudy,
  type CreatedStudy,
  type ProtocolName,
  PROTOCOLS,
  type StudyAnalysis,
  type StudyLanguage,
} from '../../lib/study/index.ts'
import type { Equal, Expect } from './helpers.ts'

export type Positive = [
  Expect<Equal<ProtocolName, 'text-to-image' | 'caption' | 'vqa' | 'pairwise'>>,
  Expect<Equal<StudyLanguage, 'en' | 'zh'>>,
  Expect<Equal<Awaited<ReturnType<typeof createStudy>>, CreatedStudy>>,
  Expect<Equal<Awaited<ReturnType<typeof analyzeStudy>>, StudyAnalysis>>,
]

export function negative(): void {
  const paths = { page: 'study.html', key: 'study.key.json' }
  // @ts-expect-error no such protocol
  void createStudy({ protocol: 'beauty', items: [], ...paths })
  // @ts-expect-error a study has a key
  void createStudy({ protocol: 'vqa', items: [], page: 'study.html' })
  // @ts-expect-error responses go by system
  void createStudy({ protocol: 'vqa', items: [{ question: 'x', responses: ['y'], answer: 1 }], ...paths })
  // @ts-expect-error the table is frozen
  PROTOCOLS.vqa.judged = 'image'
  // @ts-expect-error several files
  void analyzeStudy('study.key.json', 'anna.json')
}
