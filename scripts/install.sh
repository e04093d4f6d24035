#!/usr/bin/env bash
# Installs the program $1 under $DESTDIR$PREFIX, with its manual pages and its
# completions for bash, zsh and fish.
set -euo pipefail
program=$1 to=${DESTDIR-}${PREFIX:-/usr/local}

install -D -m 0755 "$program" "$to/bin/accessor"
install -d "$to/share/man/man1"
"$program" man "$to/share/man/man1"
completion() { # SHELL FILE
  install -d "$(dirname "$to/share/$2")"
  "$program" completion "$1" >"$to/share/$2"
}
completion bash bash-completion/completions/accessor
completion zsh zsh/site-functions/_accessor
completion fish fish/vendor_completions.d/accessor.fish
