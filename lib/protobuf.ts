// As much of protobuf's wire format as writing ONNX and TensorBoard files takes: fields of varints, floats, doubles and bytes.

/** A field of a message, encoded. */
export type Field = readonly Uint8Array[]

function varint(value: number): number[] {
  const bytes: number[] = []
  // by division: sizes and shapes may exceed 32 bits
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80)
  bytes.push(value)
  return bytes
}

// numbers of wire types
const kinds = { varint: 0, double: 1, bytes: 2, float: 5 } as const

function tag(field: number, kind: keyof typeof kinds): number[] {
  return varint(field * 8 + kinds[kind])
}

/** An int64, uint64 or enum field; whole numbers from 0, those below do not occur. */
export function integer(field: number, value: number): Field {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`Expected an integer from 0, received ${value}`)
  return [Uint8Array.from([...tag(field, 'varint'), ...varint(value)])]
}

/** A float field. */
export function float(field: number, value: number): Field {
  const encoded = new Uint8Array(4)
  new DataView(encoded.buffer).setFloat32(0, value, true)
  return [Uint8Array.from([...tag(field, 'float'), ...encoded])]
}

/** A double field. */
export function double(field: number, value: number): Field {
  const encoded = new Uint8Array(8)
  new DataView(encoded.buffer).setFloat64(0, value, true)
  return [Uint8Array.from([...tag(field, 'double'), ...encoded])]
}

/** A bytes field. The bytes are not copied until {@link encode} does. */
export function bytes(field: number, value: Uint8Array): Field {
  return [Uint8Array.from([...tag(field, 'bytes'), ...varint(value.length)]), value]
}

/** A string field. */
export function text(field: number, value: string): Field {
  return bytes(field, new TextEncoder().encode(value))
}

/** A field that holds a message. */
export function message(field: number, fields: readonly Field[]): Field {
  const parts = fields.flat()
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return [Uint8Array.from([...tag(field, 'bytes'), ...varint(length)]), ...parts]
}

/** A whole message as bytes. */
export function encode(fields: readonly Field[]): Uint8Array {
  return new Uint8Array(Buffer.concat(fields.flat()))
}
