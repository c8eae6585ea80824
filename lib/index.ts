export { backendInfo, type BackendInfo, setIsa, setThreads } from './backend-info.ts'
export { ERROR_CODES, type ErrorCode, type ErrorDetails, VilgError, VilgRangeError, VilgTypeError } from './errors.ts'
export {
  type CodebookLookupOptions,
  type Direction,
  DIRECTIONS,
  type KernelOptions,
  kernels,
  type MatmulOptions,
  type Pattern,
  PATTERNS,
  type SparseAttentionOptions,
  type StreamSizes,
} from './kernels.ts'
export type { Device, Precision } from './native/options.ts'
export {
  SafetensorsFile,
  TENSOR_DTYPES,
  type TensorArray,
  type TensorDtype,
  type TensorInfo,
  type TensorToWrite,
  writeSafetensors,
} from './checkpoint/safetensors.ts'
