// The masks that the peers are given, against ours. Their arithmetic needs a Python, but no PyTorch.
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import test from 'ava'

import { PATTERNS } from '../../../bench/gpu/rows.ts'
import { DIRECTIONS, kernels } from '../../../lib/kernels.ts'

const python = spawnSync('python3', ['--version']).status === 0 ? test : test.skip

python("the peers' masks are those of the kernels", async (t) => {
  const sizes = { textLength: 5, grid: 5, kernel: 3 }
  const length = 5 + 1 + 25
  for (const pattern of PATTERNS) {
    for (const direction of DIRECTIONS) {
      const { stdout } = await promisify(execFile)('python3', [
        ...['-B', 'bench/peers/torch/masks.py', JSON.stringify({ pattern, direction, ...sizes })],
      ])
      const expected = Array.from({ length }, (_, query) =>
        Array.from({ length }, (_, key) =>
          Number(kernels.attends(pattern, direction, query, key, sizes)),
        ).join(''),
      )
      t.deepEqual(stdout.trim().split('\n'), expected, `${pattern} ${direction}`)
    }
  }
})

python("the peers' scripts are Python", (t) => {
  const check = `import ast, glob
for file in glob.glob('bench/peers/torch/*.py'):
    ast.parse(open(file).read(), file)
    print(file)`
  const { status, stdout, stderr } = spawnSync('python3', ['-c', check], { encoding: 'utf8' })
  t.is(status, 0, stderr)
  t.true(stdout.trim().split('\n').length >= 10)
})
