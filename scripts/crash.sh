#!/usr/bin/env bash
# Kills replays with SIGKILL at random points, $KILLS (500) times: the tests
# TestCrash… of the program, which read ACCESSOR_CRASH_KILLS.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/deps.sh

# go test is content with a pattern that matches no test.
tests=$(go test -list '^TestCrash' ./cmd/accessor)
grep -q '^TestCrash' <<<"$tests" || die "no test TestCrash… in ./cmd/accessor"
ACCESSOR_CRASH_KILLS=${KILLS:-500} go test -count=1 -timeout 3h -v -run '^TestCrash' ./cmd/accessor
