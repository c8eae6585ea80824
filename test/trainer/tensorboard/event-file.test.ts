import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { crc32c } from '../../../lib/trainer/tensorboard/crc32c.ts'
import { EventFile } from '../../../lib/trainer/tensorboard/event-file.ts'
import { readEvents } from './read-events.ts'

test('checksums are those of RFC 3720, appendix B.4', (t) => {
  t.is(crc32c(new Uint8Array(32)), 0x8a9136aa)
  t.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43)
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e)
  t.is(crc32c(Buffer.from('123456789')), 0xe3069283)
})

test('an event file has what was added, in records with checksums', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-events-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = await EventFile.create(join(folder, 'new', 'folder'), 7)
  file.scalars(7, { loss: 0.5, 'a/b': -3 })
  await file.flush()
  file.scalars(8, {})
  file.image(9, 'samples', { png: Uint8Array.of(1, 2, 3), width: 40, height: 300 })
  await file.close()
  const bytes = await readFile(file.path)
  // the first record as TensorFlow's writer has it: 24 bytes, then wall time, step 0 and the version
  t.is(bytes.readBigUInt64LE(0), 26n)
  t.is(bytes.subarray(12, 13).toString('hex'), '09')
  t.is(bytes.subarray(21, 38).toString('hex'), '10001a0d' + Buffer.from('brain.Event:2').toString('hex'))
  const events = readEvents(bytes)
  t.deepEqual(
    events.map(({ wallTime: _, ...rest }) => rest),
    [
      { step: 0, fileVersion: 'brain.Event:2' },
      { step: 7, sessionStatus: 1 },
      { step: 7, scalars: { loss: 0.5, 'a/b': -3 } },
      { step: 9, images: { samples: { width: 40, height: 300, colorspace: 3, bytes: '010203' } } },
    ],
  )
  t.true(events.every(({ wallTime }) => Math.abs(wallTime! - Date.now() / 1000) < 60))
  bytes[bytes.length - 10]! ^= 1
  t.throws(() => readEvents(bytes), { message: /checksum/ })
})

test('files of one folder are in the order in which they were made', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'vilg-events-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const made: string[] = []
  for (let i = 0; i < 12; i++) {
    const file = await EventFile.create(folder, i)
    await file.close()
    made.push(file.path)
  }
  t.deepEqual(
    (await readdir(folder)).sort().map((name) => join(folder, name)),
    made,
  )
  t.true(made.every((path) => path.includes('tfevents')))
})

test('a folder that cannot be written is an error with its path', async (t) => {
  await t.throwsAsync(EventFile.create('/proc/self/nothing', 0), { code: 'ERR_VILG_IO', message: /\/proc/ })
})
