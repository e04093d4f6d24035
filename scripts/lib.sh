# Shared by the scripts beside it, which source it.
# shellcheck shell=bash

# Says what a script is doing.
say() { echo "==> $*"; }

# Ends the script with a message.
die() {
  echo "error: $*" >&2
  exit 1
}

# Exports $ACCESSOR_BIN, the program that tests start: built, where it isn't set.
program() {
  if [ -z "${ACCESSOR_BIN:-}" ]; then
    say "building the program"
    mkdir -p build/test
    go build -o build/test/accessor ./cmd/accessor
    ACCESSOR_BIN=$PWD/build/test/accessor
  fi
  export ACCESSOR_BIN
}
