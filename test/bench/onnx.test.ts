import test from 'ava'

import { Float, OnnxGraph } from '../../bench/peers/onnx-graph.ts'
import { bytes, encode, float, integer, message, text } from '../../bench/peers/protobuf.ts'

const hex = (value: Uint8Array) => Buffer.from(value).toString('hex')

test('fields are written as protobuf has them', (t) => {
  // 150 in field 1 and "testing" in field 2 are the examples of protobuf's own description of the format
  t.is(hex(encode([integer(1, 150)])), '089601')
  t.is(hex(encode([text(2, 'testing')])), '120774657374696e67')
  t.is(hex(encode([message(3, [integer(1, 150)])])), '1a03089601')
  // tags from 16 on take two bytes
  t.is(hex(encode([integer(20, 1)])), 'a00101')
  t.is(hex(encode([float(2, 1)])), '150000803f')
  t.is(hex(encode([integer(1, 2 ** 40)])), '08808080808020')
  t.is(hex(encode([bytes(9, new Uint8Array(200))])).slice(0, 6), '4ac801')
  t.throws(() => integer(1, -1), { instanceOf: RangeError })
  t.throws(() => integer(1, 0.5), { instanceOf: RangeError })
})

test('a graph is an ONNX model', (t) => {
  const graph = new OnnxGraph()
  const x = graph.input('x', 'float32', [2])
  const y = graph.node('LeakyRelu', [x], { alpha: new Float(1) })
  graph.output('y', y, 'float32', [2])
  const type = '12' + '0a' + '0a08' + '0801' + '1204' + '0a02' + '0802'
  const leaky =
    '0a2c' +
    '0a0178' +
    '12027630' +
    '1a0c' +
    hex(Buffer.from('LeakyRelu_v0')) +
    '2209' +
    hex(Buffer.from('LeakyRelu'))
  const encoded = hex(graph.encode(21))
  t.true(encoded.startsWith('080a' + '1210' + hex(Buffer.from('ernie-vilg-bench')) + '3a'))
  t.true(encoded.includes(leaky.slice(4)), encoded)
  t.true(encoded.includes(hex(Buffer.from('alpha')) + '150000803f' + 'a00101'))
  t.true(encoded.includes('5a0f' + '0a0178' + type), encoded)
  t.true(encoded.endsWith('4204' + '0a00' + '1015'))
})
