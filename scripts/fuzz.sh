#!/bin/sh
# Builds the libFuzzer programs and runs each for SECONDS: scripts/fuzz.sh [SECONDS].
# Fails on the first finding; the input lies in build/fuzz/findings.
set -eu
cd "$(dirname "$0")/.."
seconds="${1:-60}"
cmake --preset fuzz
cmake --build build/fuzz --target fuzz_all
mkdir -p build/fuzz/findings
for seeds in fuzz/seeds/*/; do
  name="$(basename "$seeds")"
  corpus="build/fuzz/corpus/$name"
  mkdir -p "$corpus"
  dictionary="fuzz/dictionaries/$name.dict"
  echo "== ${name}_fuzz, $seconds s"
  "build/fuzz/bin/${name}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="build/fuzz/findings/$name-" \
    $([ -f "$dictionary" ] && echo "-dict=$dictionary") "$corpus" "$seeds"
done
echo "no findings"
