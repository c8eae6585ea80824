'use strict'
// Builds the CUDA plugin as a release does, for sm_80 and sm_90a, and fails when a kernel spills registers, when the compiler did not
// use an instruction that a kernel is built around, or when the plugin does not load on this machine (without a driver it must say so).
const { spawnSync } = require('node:child_process')
const { mkdirSync, readdirSync, readFileSync, rmSync } = require('node:fs')
const path = require('node:path')

const root = path.resolve(__dirname, '..')
const folder = path.join(root, 'build', 'check-cuda')
const keep = path.join(folder, 'ptx')

/** By file: what must be in its PTX, for every architecture. */
const instructions = {
  attention_forward: ['mma.sync', 'ldmatrix', 'cp.async'],
  attention_backward: ['mma.sync', 'ldmatrix'],
  gemm_bf16: ['mma.sync', 'ldmatrix', 'cp.async'],
  gemm_direct: ['mma.sync', 'ldmatrix'],
  gemm_float: ['fma.rn.f32'],
  skinny: ['mma.sync', 'ldmatrix', 'cp.async', 'griddepcontrol'],
  convolution_engine: ['mma.sync', 'ldmatrix', 'cp.async', 'fma.rn.f32', 'griddepcontrol'],
  convolution_weight_gradient: ['mma.sync', 'ldmatrix.sync.aligned.m8n8.x4.trans', 'cp.async'],
  codebook: ['fma.rn.f32', 'cp.async'],
  codebook_filter: ['mma.sync', 'ldmatrix', 'cp.async'],
  draw: ['redux.sync', 'griddepcontrol'],
  conformance: ['cvt.rn.bf16x2.f32', 'ex2.approx.ftz.f32', 'ldmatrix.sync.aligned.m8n8.x4.trans'],
}

/** What must not be: the bits of a draw are defined without fused operations (csrc/kernels/exp_fixed.h). */
const forbidden = { draw: ['fma.rn.f32'] }

function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (error) throw error
  const output = stdout + stderr
  if (status !== 0) {
    process.stderr.write(output)
    throw new Error(`${command} ${args.join(' ')} failed with status ${status}`)
  }
  return output
}

rmSync(folder, { recursive: true, force: true }) // what is not compiled again is not reported again
mkdirSync(keep, { recursive: true })
run('cmake', [
  '-S', root, '-B', folder, '-DCMAKE_BUILD_TYPE=Release', '-DVILG_ADDON=OFF', '-DVILG_CUDA=ON',
  `-DVILG_CUDA_ARCHS=${process.env.VILG_CUDA_ARCHS ?? '80-real;90a-real'}`,
  `-DCMAKE_CUDA_FLAGS=-Xptxas=-v --keep --keep-dir=${keep}`,
]) // prettier-ignore
const report = run('cmake', ['--build', folder, '--target', 'vilg_cuda', '-j', '2'])

const faults = []
const warnings = report.split('\n').filter((line) => /\bwarning\b/i.test(line))
for (const line of warnings) faults.push(`the compiler warns: ${line.trim()}`)

let kernels = 0
let most = { registers: 0, name: '' }
let name = ''
for (const line of report.split('\n')) {
  const compiled = /Compiling entry function '(\S+)' for '(\S+)'/.exec(line)
  if (compiled) name = `${compiled[1]} (${compiled[2]})`
  const spilled = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line)
  if (spilled && (spilled[2] !== '0' || spilled[3] !== '0')) faults.push(`${name} spills: ${line.trim()}`)
  const used = /Used (\d+) registers/.exec(line)
  if (used) {
    kernels += 1
    if (Number(used[1]) > most.registers) most = { registers: Number(used[1]), name }
  }
}
if (kernels === 0) faults.push('the compiler reported no kernel: is -Xptxas=-v still passed?')

const ptx = readdirSync(keep).filter((file) => file.endsWith('.ptx'))
for (const [stem, expected] of Object.entries(instructions)) {
  const files = ptx.filter((file) => file.startsWith(`${stem}.`))
  if (files.length === 0) faults.push(`no PTX of ${stem}.cu was kept`)
  for (const file of files) {
    const text = readFileSync(path.join(keep, file), 'utf8')
    for (const instruction of expected) {
      const sm90 = instruction === 'griddepcontrol' && !/compute_9/.test(file)
      if (!sm90 && !text.includes(instruction)) faults.push(`${file} has no ${instruction}`)
    }
    for (const instruction of forbidden[stem] ?? []) {
      if (text.includes(instruction)) faults.push(`${file} has ${instruction}`)
    }
  }
}

const probe = `
  const binding = require(process.argv[1])
  class Failure extends Error { constructor(code, message) { super(code + ': ' + message) } }
  binding.initialize(Failure, {})
  try { console.log(JSON.stringify(binding.usePlugin(process.argv[2]))) } catch (error) { console.log(error.message) }`
const addon = require('node-gyp-build').resolve(root)
const said = run(process.execPath, [
  '-e',
  probe,
  addon,
  path.join(root, 'build/Release/libvilg_cuda.so'),
]).trim()
if (
  !/^\{"devices"|^ERR_VILG_UNSUPPORTED: (no NVIDIA driver|the NVIDIA driver is too old|the driver finds no)/.test(
    said,
  )
) {
  faults.push(`the plugin does not load cleanly: ${said}`)
}

if (faults.length > 0) {
  console.error(faults.join('\n'))
  process.exit(1)
}
console.log(
  `${kernels} kernels compiled without spills, at most ${most.registers} registers (${most.name}); plugin: ${said}`,
)
