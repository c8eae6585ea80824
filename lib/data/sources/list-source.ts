import { join } from 'node:path'
import { fingerprintOf } from './fingerprint.ts'
import { listPictures } from './folder-list.ts'
import type { FieldNames } from './list-file.ts'
import type { BrokenReport, ImageSample, SampleSource } from './sample.ts'

/**
 * Pictures in files of their own. Each is a shard, so that they come in any order at all. The list is in memory, some hundred
 * bytes a picture: beyond some millions of them, tar or Parquet files are the better place.
 *
 * @param path as {@link listPictures} takes it
 */
export async function openListSource(path: string, fields: FieldNames = {}): Promise<SampleSource<'images'>> {
  const { folder, files, broken } = await listPictures(path, fields)
  const report: BrokenReport = broken.report()
  return {
    name: path,
    kind: 'images',
    shards: files.length,
    fingerprint: fingerprintOf(files.map(({ file, captions }) => [file, captions])),
    broken: report,
    async *read(shard, from): AsyncGenerator<ImageSample> {
      const listed = files[shard]
      if (listed === undefined || from > 0) return
      const { file, captions } = listed
      yield { index: 0, id: file, captions, image: join(folder, file) }
    },
  }
}
