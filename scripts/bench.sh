#!/usr/bin/env bash
# Runs the program's benchmarks (accessor bench), the baselines in the same run.
# Arguments go to each of them. $BIN is the program: for figures to publish, the
# release build.
set -euo pipefail
cd "$(dirname "$0")/.."

for bench in import fork walkback root prove read open; do
  printf '\n$ %s\n' "$BIN bench $bench $*"
  "$BIN" bench "$bench" "$@"
done
