import { FeatureStatistics, frechetDistance, type Gaussian } from '../../lib/metrics/index.ts'
import { expectError, Random, timed } from '../data.ts'
import type { Trial } from '../trial.ts'

const count = 10_000
const dimensions = 2048
const batch = 50

/** Features in batches, as an extractor gives them. */
async function statisticsOf(features: Float32Array): Promise<Gaussian> {
  const statistics = new FeatureStatistics(dimensions)
  for (let first = 0; first < features.length; first += batch * dimensions) {
    await statistics.add(features.subarray(first, first + batch * dimensions))
  }
  return statistics.gaussian()
}

const trial: Trial = {
  description: `The Fréchet distance of two sets of ${count} vectors of ${dimensions} numbers, their means and covariances included.`,
  async setup() {
    const random = new Random(5)
    const first = random.floats(count * dimensions)
    // doubled, which float32 does exactly: their covariance is 4 times the first, and the root of the product 2 times
    const second = first.map((value) => 2 * value)
    const distance = async () => {
      const [a, b] = [await statisticsOf(first), await statisticsOf(second)]
      return { a, distance: await frechetDistance(a, b) }
    }
    return {
      cases: [
        {
          name: 'features',
          title: `Fréchet distance, 2 x ${count} vectors of ${dimensions}`,
          // two covariances, of which half the elements are computed; two Cholesky factors, their product, and its reduction to
          // bidiagonal form: (2 / 3 + 2 + 8 / 3) d^3
          work: { flops: 2 * count * dimensions ** 2 + (16 / 3) * dimensions ** 3 },
          samples: 3,
          target: { kind: 'milliseconds', atMost: 20_000 },
          async check() {
            const { a, distance: found } = await distance()
            let expected = 0
            for (let i = 0; i < dimensions; i++) {
              // |m - 2 m|^2 + tr(S + 4 S - 2 (4 S^2)^(1/2))
              expected += a.mean[i]! ** 2 + a.covariance[i * (dimensions + 1)]!
            }
            expectError('the distance', Math.abs(found / expected - 1), 1e-9)
            // uniform in [-1, 1): 1 / 3, of 10,000 samples within 6 standard deviations of (1 / 5 - 1 / 9)^(1/2) / 100
            expectError('a variance', Math.abs(a.covariance[0]! - 1 / 3), 0.018)
          },
          async run(repeats) {
            const times: number[] = []
            while (times.length < repeats) times.push(await timed(distance))
            return times
          },
        },
      ],
    }
  },
}
export default trial
