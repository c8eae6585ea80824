import type { NativeMatcherConfig } from '../../types/native-models.d.ts'
import { expectInteger, expectNumber, expectOneOf, outOfRange, rejectUnknownKeys } from '../validate.ts'
import { type Calibration, DEFAULT_CALIBRATION } from './calibration.ts'
import { checkConfigKeys } from './config-file.ts'
import { checkStreamConfig, nativeAttention, STREAM_KEYS, type StreamConfig } from './generator-config.ts'

/** What a matcher is: the `config.json` of its folder. Both towers have `layers`, `hidden` and `heads`. */
export interface MatcherConfig extends StreamConfig {
  /** What kind of model the folder holds; always written to `config.json`. */
  model?: 'ernie-vilg-matcher'
  /** Of the vectors that pictures and texts become, 1 to 65536. */
  dim: number
  /** How cosines become scores; {@link DEFAULT_CALIBRATION} unless given, see {@link Matcher.calibrate}. */
  calibration?: Calibration
}

/**
 * Checks a matcher's configuration and returns a copy of it with every field.
 *
 * @throws ERR_VILG_INVALID_ARGUMENT (TypeError, RangeError) for fields that are missing, unknown or out of range
 */
export function checkMatcherConfig(config: unknown): Readonly<Required<MatcherConfig>> {
  const name = 'the matcher config'
  checkConfigKeys(name, config, { known: ['model', ...STREAM_KEYS, 'dim', 'calibration'], unsupported: [] })
  const given = config as MatcherConfig
  return Object.freeze({
    model: expectOneOf(`model of ${name}`, given.model ?? 'ernie-vilg-matcher', ['ernie-vilg-matcher']),
    ...checkStreamConfig(name, given),
    dim: expectInteger(`dim of ${name}`, given.dim, { min: 1, max: 2 ** 16 }),
    calibration: checkCalibration(`calibration of ${name}`, given.calibration ?? DEFAULT_CALIBRATION),
  })
}

function checkCalibration(name: string, given: Calibration): Calibration {
  rejectUnknownKeys(name, given, ['midpoint', 'slope'])
  const slope = expectNumber(`slope of the ${name}`, given.slope, { min: 0 })
  if (slope === 0) throw outOfRange(`slope of the ${name}`, 'a number above 0', slope)
  return Object.freeze({ midpoint: expectNumber(`midpoint of the ${name}`, given.midpoint), slope })
}

/** The configuration as the native side takes it. */
export function nativeMatcherConfig(config: Required<MatcherConfig>): NativeMatcherConfig {
  const { model: _, calibration: _calibration, attention, ...sizes } = config
  return { ...sizes, ...nativeAttention(attention) }
}
