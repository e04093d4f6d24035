#!/usr/bin/env bash
# Builds the program into the file $1.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh
go build -trimpath -ldflags "-X main.version=$(scripts/version.sh)" -o "$1" ./cmd/accessor
