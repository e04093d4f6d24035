#!/usr/bin/env bash
# A day of blocks with a fork at every tenth slot, as fast as the disk takes them:
# what they take, how old blocks are read, a kill, an opening, pruning (accessor bench
# retention); then the model test of reads for $SOAK (1h). Arguments go to the
# benchmark.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/deps.sh

printf '\n$ %s\n' "$BIN bench retention $*"
"$BIN" bench retention "$@"
go test -count=1 -timeout 24h -v -run '^TestReadsModel$' ./state -reads-for "${SOAK:-1h}"
