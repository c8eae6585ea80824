import { readFileSync } from 'node:fs'

/** What pycocoevalcap (BLEU, ROUGE-L, CIDEr-D) and NLTK (METEOR) gave for some captions. */
export interface CaptionFixture {
  corpus: { bleu: number[]; rougeL: number; cider: number }
  items: {
    candidate: string
    references: string[]
    bleu: number[]
    rougeL: number
    cider: number
    meteorExactStem: number
  }[]
}

/** The captions of test/fixtures/metrics, whose tokens are separated by spaces. */
export function captionFixture(name: 'en' | 'zh-characters'): CaptionFixture {
  return JSON.parse(readFileSync(`test/fixtures/metrics/captions-${name}.json`, 'utf8')) as CaptionFixture
}
