import type { ImageTextPair } from '../data/pairs.ts'
import type { ErnieVilg } from '../model/ernie-vilg.ts'
import type { RerankerName } from '../sampler/options.ts'
import { rerankerNamed } from '../sampler/reranker.ts'
import { Sampler } from '../sampler/sampler.ts'
import { nearestOf, squaredError } from './pixel-distance.ts'
import { share, type Share } from './share.ts'

/** Of the same candidates of each name: is the picture that is nearest in the gallery the name's own? */
export interface BestOf {
  /** How many were drawn of each name. */
  candidates: number
  /** Without reranking: the first candidate. */
  first: Share
  /** The one with the highest likelihood of the name as its description. */
  likelihood: Share
  /** The one that the model's matcher likes best; absent where there is none. */
  matcher?: Share
}

/** What {@link drawBestOf} needs. */
interface BestOfOptions {
  /** Pictures that drawn ones are compared with. */
  gallery: readonly ImageTextPair[]
  candidates: number
  seed: number
  signal?: AbortSignal | undefined
  onDone(done: number): void
}

/** Draws the same candidates of each name once, and chooses among them in every way that the model has. */
export async function drawBestOf(
  model: ErnieVilg,
  pairs: readonly ImageTextPair[],
  { gallery, candidates, seed, signal, onDone }: BestOfOptions,
): Promise<BestOf> {
  const sampler = new Sampler(model)
  const names: RerankerName[] = model.matcher === undefined ? ['likelihood'] : ['likelihood', 'matcher']
  const first: boolean[] = []
  const outcomes: Record<RerankerName, boolean[]> = { likelihood: [], matcher: [] }
  for (const [i, pair] of pairs.entries()) {
    const prompt = pair.captions[0]!
    const images = await sampler.textToImage(prompt, {
      count: candidates,
      seed,
      truncate: true,
      ...(signal ? { signal } : {}),
    })
    const known: (boolean | undefined)[] = []
    const isOwn = (place: number): boolean => {
      const image = images[place]!
      return (known[place] ??= squaredError(image, pair) <= nearestOf(image, gallery).error)
    }
    first.push(isOwn(0))
    for (const name of names) {
      const scores = Array.from(await rerankerNamed(model, name).score(prompt, images, { signal }))
      outcomes[name].push(isOwn(scores.indexOf(Math.max(...scores))))
    }
    onDone(i + 1)
  }
  return {
    candidates,
    first: share(first),
    likelihood: share(outcomes.likelihood),
    ...(model.matcher === undefined ? {} : { matcher: share(outcomes.matcher) }),
  }
}
