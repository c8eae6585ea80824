import test from 'ava'
import { bytes, double, encode, float, integer, message, text } from '../lib/protobuf.ts'

const hex = (value: Uint8Array) => Buffer.from(value).toString('hex')

test('fields are written as protobuf has them', (t) => {
  // 150 in field 1 and "testing" in field 2 are the examples of protobuf's own description of the format
  t.is(hex(encode([integer(1, 150)])), '089601')
  t.is(hex(encode([text(2, 'testing')])), '120774657374696e67')
  t.is(hex(encode([message(3, [integer(1, 150)])])), '1a03089601')
  // tags from 16 on take two bytes
  t.is(hex(encode([integer(20, 1)])), 'a00101')
  t.is(hex(encode([float(2, 1)])), '150000803f')
  t.is(hex(encode([double(1, 1)])), '09000000000000f03f')
  t.is(hex(encode([integer(1, 2 ** 40)])), '08808080808020')
  t.is(hex(encode([bytes(9, new Uint8Array(200))])).slice(0, 6), '4ac801')
  t.throws(() => integer(1, -1), { instanceOf: RangeError })
  t.throws(() => integer(1, 0.5), { instanceOf: RangeError })
})
