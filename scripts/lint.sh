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
# Clang cannot read GCC's precompiled header: a database without it.
mkdir -p "$build/lint"
sed 's# -Winvalid-pch -include [^ ]*cmake_pch.hxx##g' "$build/compile_commands.json" \
  >"$build/lint/compile_commands.json"
[ $# -gt 0 ] || set -- $(git ls-files 'src/*.cpp')
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$tool" -p "$build/lint" --quiet
