#!/bin/sh
# Builds and runs the tests under AddressSanitizer with UBSan, and those without
# the real model under ThreadSanitizer.
set -eu
cd "$(dirname "$0")/.."
# LibTorch allocates for the whole process and hands memory over to its own caches.
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
cmake --preset asan
cmake --build build/asan
ctest --test-dir build/asan --output-on-failure -L unit
# LibTorch's OpenMP runtime is not built for ThreadSanitizer: see tsan.supp.
export TSAN_OPTIONS="suppressions=$PWD/scripts/tsan.supp:halt_on_error=1"
export OMP_NUM_THREADS=1
cmake --preset tsan
cmake --build build/tsan
ctest --test-dir build/tsan --output-on-failure -L unit
