# Shared by the scripts beside it, which source it.
# shellcheck shell=bash

# Says what a script is doing.
say() { echo "==> $*"; }

# Ends the script with a message.
die() {
  echo "error: $*" >&2
  exit 1
}
