import test from 'ava'

import { Float, OnnxGraph } from '../../bench/peers/onnx-graph.ts'

const hex = (value: Uint8Array) => Buffer.from(value).toString('hex')

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
