#!/bin/sh
# Formats every C++ file; with --check it only reports, and fails on a difference.
set -eu
cd "$(dirname "$0")/.."
tool=$(command -v clang-format-14 || command -v clang-format) || {
  echo "error: clang-format not found: apt-get install clang-format-14" >&2
  exit 2
}
case "${1:-}" in
  --check) mode="--dry-run --Werror" ;;
  *) mode=-i ;;
esac
# shellcheck disable=SC2086
git ls-files -z --cached --others --exclude-standard '*.h' '*.cpp' | xargs -0 "$tool" $mode
