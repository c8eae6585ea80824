import { VilgError } from '../../errors.ts'
import { expectNumber, expectString } from '../../validate.ts'
import type { RgbImage } from '../image.ts'
import type { PairRule } from './rule.ts'

/** Says how well captions fit a picture. */
export interface ImageTextMatcher {
  /** With its version: it decides what stays. */
  readonly name: string
  /** One score a caption, from 0 to 1. */
  score(image: RgbImage, captions: readonly string[]): Promise<ArrayLike<number>> | ArrayLike<number>
}

/**
 * The paper's third rule (3.2.1): an image-text similarity above 0.5, of scores from 0 to 1. Captions below go.
 *
 * @param above 0.5 unless given
 */
export function similarityRule(matcher: ImageTextMatcher, above = 0.5): PairRule {
  expectNumber('above', above, { min: 0, max: 1 })
  expectString('matcher.name', matcher?.name)
  return {
    name: 'similarity',
    settings: { matcher: matcher.name, above },
    needs: 'picture',
    async filter({ id, captions, image }) {
      const scores = await matcher.score(image, captions)
      return captions.filter((_, i) => checkScore(matcher.name, id, scores[i]) > above)
    },
  }
}

function checkScore(matcher: string, id: string, score: number | undefined): number {
  if (typeof score === 'number' && score >= 0 && score <= 1) return score
  const text = `Expected a score from 0 to 1 for each caption of ${id} from the matcher ${matcher}, received ${String(score)}`
  throw new VilgError('ERR_VILG_INVALID_ARGUMENT', text, { id, matcher })
}
