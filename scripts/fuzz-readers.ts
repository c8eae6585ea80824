// Reads many mutated checkpoint files of every kind: `npm run fuzz -- [cases] [first case]`. Same numbers, same files.
import { fuzz } from '../test/checkpoint/fuzz/fuzz.ts'

const [count = 225_000, first = 0] = process.argv.slice(2).map(Number)
if (![count, first].every(Number.isSafeInteger))
  throw new Error('usage: npm run fuzz -- [cases] [first case]')

const step = 1000
const { counts, failures } = await fuzz(first, count, (done) => {
  if (done % (10 * step) === 0) process.stderr.write(`${done} of ${count} cases\n`)
})
for (const [kind, { read, refused }] of Object.entries(counts)) {
  const codes = Object.entries(refused).map(([code, times]) => `${times} ${code}`)
  console.log(`${kind.padEnd(22)} ${[`${read} read`, ...codes].join(', ')}`)
}
console.log(`largest memory: ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`)
for (const { kind, case: number, reason } of failures.slice(0, 20))
  console.error(`case ${number} (${kind}): ${reason}`)
console.log(
  failures.length === 0 ? 'nothing but tensors and errors of ours' : `${failures.length} cases failed`,
)
process.exitCode = failures.length === 0 ? 0 : 1
