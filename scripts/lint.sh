#!/usr/bin/env bash
# Checks formatting, vet, golangci-lint, known vulnerabilities (where there is a
# network) and the shell scripts (where shellcheck is installed). The tools are
# built once, into build/tools. The packages are those of $PKG (all).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/deps.sh

read -ra packages <<<"${PKG:-./...}"
failed=0

# tool NAME MODULE VERSION: builds a tool unless this version is there.
tool() {
  local dir=$PWD/build/tools/$1@$3
  if [ ! -x "$dir/$1" ]; then
    say "building $1 $3"
    GOBIN=$dir go install "$2@$3" || return
  fi
  tool_path=$dir/$1
}

say "gofmt"
unformatted=$(find . -name '*.go' -not -path './build/*' -exec gofmt -l {} +)
if [ -n "$unformatted" ]; then
  echo "not formatted, see gofmt -d:" >&2
  echo "$unformatted" >&2
  failed=1
fi

say "go vet"
go vet "${packages[@]}" || failed=1

say "golangci-lint"
if tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.15.0; then
  "$tool_path" run "${packages[@]}" || failed=1
else
  die "build golangci-lint: see above"
fi

say "govulncheck"
# The only step that asks a server at each run: without one it is left out.
if tool govulncheck golang.org/x/vuln/cmd/govulncheck v1.8.0; then
  status=0
  output=$("$tool_path" "${packages[@]}" 2>&1) || status=$?
  case $status in
  0) echo "$output" | tail -n 1 ;;
  3) # found something
    echo "$output"
    failed=1
    ;;
  *) echo "left out: $(tail -n 1 <<<"$output")" ;;
  esac
else
  echo "left out: govulncheck could not be built"
fi

if command -v shellcheck >/dev/null; then
  say "shellcheck"
  shellcheck -x scripts/*.sh .ci/run || failed=1
fi

exit $failed
