#!/bin/sh
# Builds and runs the unit tests under AddressSanitizer with UBSan, then under
# ThreadSanitizer with two threads. usage: scripts/sanitize.sh [asan|tsan]
set -eu
cd "$(dirname "$0")/.."
build() {
  cmake --preset "$1"
  cmake --build "build/$1" --target unit_tests
}
if [ "${1:-asan}" = asan ]; then
  # LibTorch allocates for the whole process and hands memory over to its own caches.
  export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0
  export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
  build asan
  ctest --test-dir build/asan --output-on-failure -L unit
fi
if [ "${1:-tsan}" = tsan ]; then
  # GCC's OpenMP runtime hides from ThreadSanitizer what happens before what. LLVM's
  # stands in for it and tells, through its tool Archer.
  archer=$(ls /usr/lib/llvm-*/lib/libarcher.so 2>/dev/null | tail -n 1)
  [ -n "$archer" ] || {
    echo "error: libarcher.so not found: apt-get install libomp-14-dev" >&2
    exit 2
  }
  build tsan
  export TSAN_OPTIONS="suppressions=$PWD/scripts/tsan.supp:ignore_noninstrumented_modules=1"
  export OMP_NUM_THREADS=2 OMP_TOOL_LIBRARIES="$archer"
  LD_PRELOAD="$(dirname "$archer")/libomp.so.5" \
    ctest --test-dir build/tsan --output-on-failure -L unit
fi
