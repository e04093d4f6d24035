#!/usr/bin/env bash
# Checks and tests the Rust client in clients/rust: formatting, clippy, the tests and
# examples of its feature sets, its documentation, and the crate that reads a pinned
# checkpoint with Debian's RocksDB. The program is $ACCESSOR_BIN; without it, it is built.
#
#   scripts/rust.sh          all of that
#   scripts/rust.sh bench    build build/rust/release/bench, for accessor bench clients
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/deps.sh libclang1-14

command -v cargo >/dev/null || die "no cargo command on the PATH: install Rust 1.71 or newer, https://rustup.rs/"
export CARGO_TARGET_DIR=$PWD/build/rust CARGO_TERM_PROGRESS_WHEN=never
# Debian's library is linked, not built from source. libclang alone doesn't bring the
# compiler's own headers.
export ROCKSDB_LIB_DIR=${ROCKSDB_LIB_DIR:-/usr/lib/$(gcc -dumpmachine)}
export ROCKSDB_INCLUDE_DIR=${ROCKSDB_INCLUDE_DIR:-/usr/include}
export LIBCLANG_PATH=${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}
export BINDGEN_EXTRA_CLANG_ARGS=${BINDGEN_EXTRA_CLANG_ARGS:--I$(gcc -print-file-name=include)}

if [ "${1:-}" = bench ]; then
  exec cargo build --locked -q --release --manifest-path clients/rust/Cargo.toml -p accessor-direct --bin bench
fi
program

cd clients/rust
say "cargo fmt"
cargo fmt --all --check
say "cargo clippy"
cargo clippy --locked -q --lib -- -D warnings
cargo clippy --locked -q --workspace --all-targets --all-features -- -D warnings
say "cargo doc"
RUSTDOCFLAGS='-D warnings' cargo doc --locked -q --no-deps --workspace --all-features
say "cargo test, without features"
cargo test --locked
say "cargo test, with all features"
cargo test --locked --workspace --all-features -- --nocapture
