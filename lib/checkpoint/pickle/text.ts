import { formatError } from '../format-error.ts'

const utf8Decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** @throws ERR_VILG_CHECKPOINT_FORMAT for bytes that are no UTF-8 */
export function utf8(bytes: Uint8Array): string {
  try {
    return utf8Decoder.decode(bytes)
  } catch {
    throw formatError('Expected text of a pickle in UTF-8, found other bytes')
  }
}

/** A character a byte, as strings of Python 2 are read. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

/** A little-endian integer in two's complement; a bigint beyond 2^53. */
export function integer(bytes: Uint8Array): number | bigint {
  let value = 0n
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!)
  value = BigInt.asIntN(8 * bytes.length, value)
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}
