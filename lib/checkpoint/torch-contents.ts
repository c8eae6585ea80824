import type { Region } from './byte-source.ts'
import { formatError } from './format-error.ts'
import { readContents } from './pickle/contents.ts'
import { storageItemSize } from './pickle/tensors.ts'
import type { PickleValue, Storage } from './pickle/values.ts'
import type { CheckpointContents, StoredTensor } from './stored-tensor.ts'

/**
 * The tensors of an unpickled file of `torch.save` with the regions of their storages.
 *
 * @param regionOf where a storage lies; its length must be what the pickle says
 * @throws ERR_VILG_CHECKPOINT_FORMAT, ERR_VILG_UNSUPPORTED
 */
export function torchContents(root: PickleValue, regionOf: (storage: Storage) => Region): CheckpointContents {
  const { tensors: found, metadata } = readContents(root)
  const regions = new Map<string, Region>()
  const tensors = new Map<string, StoredTensor>()
  for (const [name, { storage, dtype, shape, strides, offset }] of found) {
    let region = regions.get(storage.key)
    if (region === undefined) {
      region = checkedRegion(storage, regionOf(storage))
      regions.set(storage.key, region)
    }
    tensors.set(name, { dtype, shape, strides, offset, region })
  }
  return { tensors, metadata }
}

function checkedRegion(storage: Storage, region: Region): Region {
  const expected = storage.length * storageItemSize(storage.dtype)
  if (region.length !== expected) {
    throw formatError(
      `Expected ${expected} bytes for storage ${storage.key} (${storage.length} x ${storage.dtype}), found ${region.length}`,
    )
  }
  return region
}
