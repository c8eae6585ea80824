import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** A text with what google-research/bert makes of it, without CLS and SEP. */
export interface WordPieceCase {
  text: string
  tokens: string[]
  ids: number[]
}

/** BERT's Chinese vocabulary. */
export const vocabularyPath = fixturePath('vocab.txt')

/** The tokens of BERT's Chinese vocabulary. */
export function readVocabulary(): string[] {
  return readFileSync(vocabularyPath, 'utf8').split('\n').slice(0, -1)
}

/** The cases of a fixture file. */
export function readCases(name: 'cases.json' | 'unusual.json'): WordPieceCase[] {
  return JSON.parse(readFileSync(fixturePath(name), 'utf8')) as WordPieceCase[]
}

function fixturePath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/wordpiece/${name}`, import.meta.url))
}

/** Uniform numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A text of random code units: letters, ideographs, marks, controls, any other, lone surrogates among them. */
export function randomText(random: () => number, length: number): string {
  let text = ''
  const pick = (from: number, to: number) => from + Math.floor(random() * (to - from + 1))
  for (let i = 0; i < length; i++) {
    const kind = random()
    if (kind < 0.25) text += String.fromCodePoint(pick(0, 0x10ffff))
    else if (kind < 0.4) text += String.fromCharCode(pick(0, 0xffff))
    else if (kind < 0.6) text += String.fromCharCode(pick(0x61, 0x7a))
    else if (kind < 0.7) text += String.fromCharCode(pick(0, 0x7f))
    else if (kind < 0.8) text += String.fromCharCode(pick(0x300, 0x36f))
    else text += String.fromCharCode(pick(0x4e00, 0x9fff))
  }
  return text
}
