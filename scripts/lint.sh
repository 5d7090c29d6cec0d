#!/bin/sh
# clang-tidy over the library and the program, with the short list in .clang-tidy.
# usage: scripts/lint.sh BUILD [FILE ...]
set -eu
cd "$(dirname "$0")/.."
tool=$(command -v clang-tidy-14 || command -v clang-tidy) || {
  echo "error: clang-tidy not found: apt-get install clang-tidy-14" >&2
  exit 2
}
build=$1
shift
# Clang cannot read GCC's precompiled header, and each file is read by itself: a database of its own.
cmake --preset release -B "$build/lint" -DSCHMIDT_UNITY=OFF -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
  -DSCHMIDT_TESTS=OFF -DSCHMIDT_BENCH=OFF >"$build/lint.log"
# Python's module is no part of that build.
[ $# -gt 0 ] || set -- $(git ls-files 'src/*.cpp' ':!src/schmidt/python')
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$tool" -p "$build/lint" --quiet
