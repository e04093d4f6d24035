#!/usr/bin/env bash
# Makes sure of what the build needs: Go as of go.mod, a C++ compiler, RocksDB
# and the compression libraries. Installs missing Debian packages, also those
# named as arguments; does nothing, fast, where all are there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

packages=(g++ librocksdb-dev libsnappy-dev liblz4-dev libzstd-dev zlib1g-dev
  libbz2-dev ca-certificates "$@")

check_go() {
  local want have
  want=$(awk '$1 == "go" { print $2; exit }' go.mod)
  command -v go >/dev/null ||
    die "no go command on the PATH: install Go $want or newer, https://go.dev/dl/ (export PATH=\$PATH:/usr/local/go/bin where it is there)"
  # A newer go command answers for the version that it switches to.
  have=$(go env GOVERSION) || die "this project needs Go $want or newer: https://go.dev/dl/"
  have=${have#go}
  [ "$(printf '%s\n' "$want" "${have%% *}" | sort -V | head -n 1)" = "$want" ] ||
    die "this project needs Go $want or newer, here is $have: https://go.dev/dl/"
}

# Names the packages that are not installed.
missing() {
  local installed p
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
    sed -n 's/^installed //p') || true
  for p in "${packages[@]}"; do
    grep -qxF -- "$p" <<<"$installed" || echo "$p"
  done
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

apt_install() {
  as_root apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}

install_missing() {
  say "installing $*"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    die "these packages are missing, and installing them takes root or sudo: $*
as root: apt-get install $*"
  fi
  # Lists that are there may do, and are tried first; on a fresh machine there
  # are none.
  if ! apt-cache show "$@" >/dev/null 2>&1 || ! apt_install "$@"; then
    as_root apt-get -q -o DPkg::Lock::Timeout=300 update
    apt_install "$@" || die "could not install: $*"
  fi
}

# The binding fits RocksDB 7 (Debian 12's is 7.8.3).
check_rocksdb() {
  local header=/usr/include/rocksdb/version.h major
  [ -f "$header" ] || return 0 # elsewhere: the compiler will say
  major=$(awk '$2 == "ROCKSDB_MAJOR" { print $3 }' "$header")
  [ "$major" = 7 ] ||
    die "RocksDB here is version $major; this project builds with 7.8, as in Debian 12 (bookworm)"
}

check_go
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  # Not Debian or a relative: what is there may do, but installing is the
  # user's part.
  echo '#include <rocksdb/c.h>' | c++ -E -x c++ - >/dev/null 2>&1 ||
    die "this machine has no apt: install a C++ compiler and the headers and libraries of RocksDB 7.8, snappy, lz4, zstd, zlib and bzip2 (on Debian 12: ${packages[*]})"
else
  mapfile -t absent < <(missing)
  if [ ${#absent[@]} -gt 0 ]; then
    install_missing "${absent[@]}"
  fi
fi
check_rocksdb
