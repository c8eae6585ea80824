import test from 'ava'
import type { NativeBinding } from '../../types/native.d.ts'
import { ERROR_CODES } from '../../lib/errors.ts'
import { native } from '../../lib/native/binding.ts'

// Every key of the contract and nothing else, or this file does not compile.
const surface = {
  version: 'string',
  initialize: 'function',
  StopFlag: 'class',
  SafetensorsFile: 'class',
  backendInfo: 'function',
  usePlugin: 'function',
  setThreads: 'function',
  setIsa: 'function',
  memoryUse: 'function',
  errorCodes: 'function',
  sparseAttention: 'function',
  sparseAttentionBackward: 'function',
  attends: 'function',
  codebookLookup: 'function',
  matmul: 'function',
  ceilings: 'function',
  copy: 'function',
  featureMoments: 'function',
  frechetDistance: 'function',
  openSafetensors: 'function',
  writeSafetensors: 'function',
  writeFile: 'function',
  createGenerator: 'function',
  loadGenerator: 'function',
  createImageSession: 'function',
  createTextSession: 'function',
  createImageTokenizer: 'function',
  loadImageTokenizer: 'function',
  createMatcher: 'function',
  loadMatcher: 'function',
  createMatcherTrainer: 'function',
  createGeneratorTrainer: 'function',
  createDvaeTrainer: 'function',
  createImageTokenizerTrainer: 'function',
} as const satisfies Record<keyof NativeBinding, 'string' | 'function' | 'class'>

test('the module exports what its contract says and nothing else', (t) => {
  const exported = Object.entries(native()).map(([name, value]) => {
    // classes come from napi_define_class and have members; functions have a bare prototype or none
    const members = typeof value === 'function' ? Object.getOwnPropertyNames(value.prototype ?? {}) : []
    const kind = members.includes('dispose') ? 'class' : typeof value
    return [name, kind] as const
  })
  t.deepEqual(Object.fromEntries(exported.sort()), Object.fromEntries(Object.entries(surface).sort()))
})

test('native and TypeScript have the same error codes', (t) => {
  t.deepEqual(native().errorCodes(), [...ERROR_CODES])
})
