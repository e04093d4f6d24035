#!/usr/bin/env bash
# Runs vet, all tests and a short fuzzing of each decoder; ends with the line
# "N passed, N failed, N skipped". The packages are those of $PKG (all), the go
# command's further flags $TESTFLAGS. NO_SKIP=1 makes a skipped test an error.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh curl openssl

# Words, as make passes them.
read -ra packages <<<"${PKG:-./...}"
read -ra flags <<<"${TESTFLAGS:-}"

# mawk, Debian's awk, otherwise says nothing before the end.
awk_flags=()
case $(readlink -f "$(command -v awk)") in */mawk) awk_flags=(-W interactive) ;; esac

go vet "${packages[@]}"
# Tests of the clients start it as a process of its own.
mkdir -p build/test
go build -o build/test/accessor ./cmd/accessor
export ACCESSOR_BIN=$PWD/build/test/accessor
{
  status=0
  # test2json marks the lines that tests.awk counts, and is otherwise -v.
  go test -vet=off -p 2 -v=test2json "${flags[@]}" "${packages[@]}" || status=1
  scripts/fuzz.sh -v=test2json || status=1
  exit $status
} | awk "${awk_flags[@]}" -v no_skip="${NO_SKIP:-0}" -f scripts/tests.awk
