#!/usr/bin/env bash
# Replays the bundled chain into a temporary store and draws its fork tree.
set -euo pipefail
cd "$(dirname "$0")/.."

data=$(mktemp -d "${TMPDIR:-/tmp}/accessor-demo.XXXXXX")
# Sealed checkpoints are read-only.
trap 'chmod -R u+w "$data"; rm -rf "$data"' EXIT

run() {
  printf '\n$ %s\n' "$*"
  "$@"
}

run bin/accessor replay cmd/accessor/testdata/demo.jsonl.zst --data "$data"
run bin/accessor get --data "$data" --at head entropy
run bin/accessor diff --data "$data" 54 head
run bin/accessor verify --data "$data"
