#!/usr/bin/env bash
# Fuzzes each fuzz target of the packages $PKG (all) with $FUZZTIME inputs (15000x), one
# after the other. A number of inputs, not a time: go test may take its own end of
# time for a failure. Arguments go to go test.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh

read -ra packages <<<"${PKG:-./...}"

# "package target" for each one. The list comes from the sources, where
# go test -list would link every package first.
targets() {
  # shellcheck disable=SC2016 # the $ is the template's
  go list -f '{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}{{"\n"}}{{end}}' \
    "${packages[@]}" | while read -r package file; do
    sed -nE "s|^func (Fuzz[A-Za-z0-9_]*)\(.*|$package \1|p" "$file"
  done
}

list=$(targets)
status=0
while read -r package target; do
  [ -n "$package" ] || continue
  go test -vet=off -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-15000x}" -fuzzminimizetime 10x "$@" "$package" </dev/null || status=1
done <<<"$list"
exit $status
