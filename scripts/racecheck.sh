#!/usr/bin/env bash
# The CUDA kernels on the host under ThreadSanitizer: missing barriers are data races between the
# threads of a block. Builds build/race and runs csrc/tests/cuda/race_test.cc: the races that are
# there on purpose must be reported, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake -S . -B build/race -DCMAKE_BUILD_TYPE=Release -DVILG_TESTS=ON -DVILG_ADDON=OFF \
  -DVILG_SANITIZE=thread -DVILG_TEST_FOLDER=race "$@" >/dev/null
cmake --build build/race --target vilg_cuda_tests -j"$(nproc)" | tail -n 1

readonly reported=66
export TSAN_OPTIONS="halt_on_error=1:exitcode=$reported"
# older ThreadSanitizers do not know the address space of newer kernels unless it is in its usual order
run() { setarch "$(uname -m)" --addr-no-randomize build/tests/race/vilg_cuda_tests "$@"; }

planted=$(sed -n 's/^VILG_TEST(\(race_planted_[a-z_]*\)).*/\1/p' csrc/tests/cuda/race_test.cc)
[ -n "$planted" ] || { echo 'no planted races were found' >&2; exit 1; }
for test in $planted; do
  status=0
  report=$(run "$test" 2>&1) || status=$?
  if [ "$status" -ne "$reported" ] || ! grep -q 'race_test.cc' <<<"$report"; then
    printf '%s\n%s ended with %s instead of a report of its race\n' "$report" "$test" "$status" >&2
    exit 1
  fi
  echo "reported: $test"
done
run race_free
