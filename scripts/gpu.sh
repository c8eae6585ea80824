#!/usr/bin/env bash
# Checks and measures everything on a machine with a GPU: bench/gpu/index.ts. Needs node and what is built, no npm; see --help.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v node >/dev/null; then
  echo 'scripts/gpu.sh: expected node on PATH' >&2
  exit 1
fi
if [ ! -d node_modules/tsx ]; then
  echo 'scripts/gpu.sh: expected the packages of package.json in node_modules, tsx among them: run npm install' >&2
  exit 1
fi
exec node --import tsx bench/gpu/index.ts "$@"
