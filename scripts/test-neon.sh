#!/bin/sh
# Builds the native tests for 64-bit Arm and runs those that match the filters under qemu (-word: all but those):
#   scripts/test-neon.sh [filter ...]
# Fails when a test fails, when nothing matches the filter and when the tools are missing.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build/neon

missing=
for tool in aarch64-linux-gnu-g++ qemu-aarch64 cmake; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  echo "Expected these programs, which were not found:$missing" >&2
  echo "On Debian and Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user cmake" >&2
  exit 1
fi

# static, so that qemu needs no Arm system libraries
cmake -S "$root" -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static \
  -DCMAKE_BUILD_TYPE=Release -DVILG_TESTS=ON -DVILG_ADDON=OFF -DVILG_TEST_FOLDER=neon \
  >/dev/null
cmake --build "$build" --parallel 2 --target vilg_tests >&2
exec qemu-aarch64 "$root/build/tests/neon/vilg_tests" "$@"
