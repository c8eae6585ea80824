import { setImmediate as turn } from 'node:timers/promises'
import { VilgError } from '../../errors.ts'
import { checkSignal } from '../../native/call.ts'
import { expectOneOf, expectString, outOfRange, rejectUnknownKeys, typeMismatch } from '../../validate.ts'
import { bleu, type BleuScores } from './bleu.ts'
import { cider, ciderD, documentFrequencies } from './cider.ts'
import { meteor, type MeteorOptions } from './meteor.ts'
import { rougeL } from './rouge-l.ts'
import { captionTokenizer, type CaptionTokens, type TokenizedCaption } from './tokens.ts'

/** The metrics that {@link evaluateCaptions} computes. */
export const CAPTION_METRICS = Object.freeze(['bleu', 'meteor', 'rougeL', 'cider', 'ciderD'] as const)

/** One of {@link CAPTION_METRICS}. */
export type CaptionMetric = (typeof CAPTION_METRICS)[number]

/** A caption to judge. */
export interface CaptionItem {
  candidate: string
  /** What people said of the same picture; at least one. */
  references: readonly string[]
}

/** What {@link evaluateCaptions} found: `corpus` over all captions, `items` of each. Only metrics that were asked for are there. */
export interface CaptionScores {
  /** How many captions were judged. */
  count: number
  corpus: { bleu?: BleuScores } & { [metric in Exclude<CaptionMetric, 'bleu'>]?: number }
  items: { bleu?: BleuScores[] } & { [metric in Exclude<CaptionMetric, 'bleu'>]?: number[] }
}

/** Options of {@link evaluateCaptions}. */
export interface EvaluateCaptionsOptions extends MeteorOptions {
  /** `words` unless given; `characters` for Chinese. */
  tokens?: CaptionTokens
  /** All of {@link CAPTION_METRICS} unless given. */
  metrics?: readonly CaptionMetric[]
  /** For each picture of a corpus its references: what CIDEr's frequencies are counted in; the references of the captions unless given. */
  corpus?: readonly (readonly string[])[]
  /** Looked at between metrics. */
  signal?: AbortSignal
  /** Called with a fraction that rises to 1, after each metric. */
  onProgress?: (event: { fraction: number }) => void
}

const optionKeys = ['tokens', 'metrics', 'corpus', 'synonyms', 'signal', 'onProgress'] as const

/**
 * Judges captions by references: BLEU-1..4 ({@link bleu}), METEOR ({@link meteor}), ROUGE-L ({@link rougeL}), CIDEr ({@link cider}) and
 * CIDEr-D ({@link ciderD}, which coco-caption and with it most papers call CIDEr).
 *
 * SPICE is not there: it compares scene graphs, which Stanford's dependency parser makes from the captions, a Java program with models of
 * its own, and nothing simpler gives the same numbers.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT; ERR_VILG_UNSUPPORTED for the metric `spice`
 */
export async function evaluateCaptions(
  items: readonly CaptionItem[],
  options: EvaluateCaptionsOptions = {},
): Promise<CaptionScores> {
  rejectUnknownKeys('evaluateCaptions options', options, optionKeys)
  const { tokens = 'words', synonyms, signal, onProgress } = options
  checkSignal(signal)
  const metrics = checkMetrics(options.metrics ?? CAPTION_METRICS)
  const tokenize = captionTokenizer('tokens', tokens)
  const captions = tokenizeItems(items, tokenize)
  const frequencies = options.corpus && documentFrequencies(tokenizeCorpus(options.corpus, tokenize))
  const compute = {
    bleu: () => bleu(captions),
    meteor: () => meteor(captions, { synonyms }),
    rougeL: () => rougeL(captions),
    cider: () => cider(captions, frequencies),
    ciderD: () => ciderD(captions, frequencies),
  } satisfies Record<CaptionMetric, () => unknown>
  const scores: CaptionScores = { count: captions.length, corpus: {}, items: {} }
  for (const [i, metric] of metrics.entries()) {
    await turn()
    signal?.throwIfAborted()
    const { corpus, items } = compute[metric]()
    Object.assign(scores.corpus, { [metric]: corpus })
    Object.assign(scores.items, { [metric]: items })
    onProgress?.({ fraction: (i + 1) / metrics.length })
  }
  return scores
}

function checkMetrics(metrics: unknown): CaptionMetric[] {
  if (!Array.isArray(metrics)) throw typeMismatch('metrics', 'an array of names', metrics)
  if (metrics.length === 0) throw outOfRange('metrics', 'at least one metric', metrics)
  const names = metrics.map((name, i) => {
    if (name === 'spice') {
      throw new VilgError(
        'ERR_VILG_UNSUPPORTED',
        'SPICE is not there: it needs the scene graphs of a dependency parser (a Java program with models of its own). ' +
          "Run its authors' program for it",
        { metric: name },
      )
    }
    return expectOneOf(`metrics[${i}]`, name, CAPTION_METRICS)
  })
  return [...new Set(names)]
}

function tokenizeItems(items: unknown, tokenize: (text: string) => readonly string[]): TokenizedCaption[] {
  if (!Array.isArray(items)) throw typeMismatch('items', 'an array of captions', items)
  if (items.length === 0) throw outOfRange('items', 'at least one caption', items)
  return items.map((item: Partial<CaptionItem> | null, i) => ({
    candidate: tokenize(expectString(`items[${i}].candidate`, item?.candidate)),
    references: tokenizeTexts(`items[${i}].references`, item?.references, tokenize),
  }))
}

function tokenizeCorpus(
  corpus: unknown,
  tokenize: (text: string) => readonly string[],
): TokenizedCaption['references'][] {
  if (!Array.isArray(corpus)) throw typeMismatch('corpus', 'an array of lists of references', corpus)
  return corpus.map((texts, i) => tokenizeTexts(`corpus[${i}]`, texts, tokenize))
}

function tokenizeTexts(
  name: string,
  texts: unknown,
  tokenize: (text: string) => readonly string[],
): (readonly string[])[] {
  if (!Array.isArray(texts)) throw typeMismatch(name, 'an array of strings', texts)
  if (texts.length === 0) throw outOfRange(name, 'at least one text', texts)
  return texts.map((text, j) => tokenize(expectString(`${name}[${j}]`, text)))
}
