// Builds ONNX files. Numbers of fields and types are those of onnx.proto (IR version 8 and later).
import { bytes, encode, type Field, float, integer, message, text } from '../../lib/protobuf.ts'

const dataTypes = { float32: 1, int64: 7 } as const

/** What an attribute of a node can be: whole numbers are INT, others FLOAT; mark a whole FLOAT with {@link Float}. */
export type Attribute = number | string | readonly number[] | Float

/** A float attribute, whatever its value. */
export class Float {
  readonly value: number

  constructor(value: number) {
    this.value = value
  }
}

function attribute(name: string, value: Attribute): Field {
  if (value instanceof Float) return message(5, [text(1, name), float(2, value.value), integer(20, 1)])
  if (typeof value === 'number') return message(5, [text(1, name), integer(3, value), integer(20, 2)])
  if (typeof value === 'string') return message(5, [text(1, name), text(4, value), integer(20, 3)])
  return message(5, [text(1, name), ...value.map((one) => integer(8, one)), integer(20, 7)])
}

function valueInfo(
  field: number,
  name: string,
  type: keyof typeof dataTypes,
  shape: readonly number[],
): Field {
  const dimensions = shape.map((size) => message(1, [integer(1, size)]))
  const tensor = [integer(1, dataTypes[type]), message(2, dimensions)]
  return message(field, [text(1, name), message(2, [message(1, tensor)])])
}

/** A graph, written node by node. Every method that computes returns the name of its result. */
export class OnnxGraph {
  readonly #nodes: Field[] = []
  readonly #initializers: Field[] = []
  readonly #inputs: Field[] = []
  readonly #outputs: Field[] = []
  #names = 0

  input(name: string, type: keyof typeof dataTypes, shape: readonly number[]): string {
    this.#inputs.push(valueInfo(11, name, type, shape))
    return name
  }

  output(name: string, value: string, type: keyof typeof dataTypes, shape: readonly number[]): void {
    this.#node('Identity', [value], {}, name)
    this.#outputs.push(valueInfo(12, name, type, shape))
  }

  floats(values: Float32Array, shape: readonly number[]): string {
    return this.#initializer('float32', values, shape)
  }

  integers(values: readonly number[]): string {
    return this.#initializer('int64', BigInt64Array.from(values, BigInt), [values.length])
  }

  node(op: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    return this.#node(op, inputs, attributes, `v${this.#names++}`)
  }

  #node(
    op: string,
    inputs: readonly string[],
    attributes: Record<string, Attribute>,
    result: string,
  ): string {
    const named = Object.entries(attributes).map(([name, value]) => attribute(name, value))
    this.#nodes.push(
      message(1, [
        ...inputs.map((name) => text(1, name)),
        text(2, result),
        text(3, `${op}_${result}`),
        text(4, op),
        ...named,
      ]),
    )
    return result
  }

  #initializer(
    type: keyof typeof dataTypes,
    values: Float32Array | BigInt64Array<ArrayBuffer>,
    shape: readonly number[],
  ): string {
    const name = `w${this.#names++}`
    const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    const sizes = shape.map((size) => integer(1, size))
    this.#initializers.push(message(5, [...sizes, integer(2, dataTypes[type]), text(8, name), bytes(9, raw)]))
    return name
  }

  /** The file: a ModelProto of the given version of the operators. */
  encode(opset: number): Uint8Array {
    const graph = [...this.#nodes, text(2, 'graph'), ...this.#initializers, ...this.#inputs, ...this.#outputs]
    return encode([
      integer(1, 10),
      text(2, 'ernie-vilg-bench'),
      message(7, graph),
      message(8, [text(1, ''), integer(2, opset)]),
    ])
  }
}
