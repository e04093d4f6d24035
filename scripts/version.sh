#!/usr/bin/env bash
# Prints the version to build into the program: git's description of the
# source, or nothing where it comes without its history.
cd "$(dirname "$0")/.." || exit
[ ! -e .git ] || git describe --tags --always --dirty 2>/dev/null || true
