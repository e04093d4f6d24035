#!/usr/bin/env bash
# Builds the release library of RocksDB (build/rocksdb/librocksdb.a), once,
# from the source package of Debian's own librocksdb-dev. Given a command, runs
# it with the settings that make the go command link that library:
#
#   scripts/rocksdb.sh                    build the library
#   scripts/rocksdb.sh go test ./...      … and test with it
#
# Debian's library has C++ assertions on and no hardware CRC32C; this one is the
# same source, compiled for speed. See docs/RELEASE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

version=7.8.3-2
source_sha256='8c799d700b825cc4eebb5afbd43ebf2fb13d397828fc442c61d786f7792c2976  rocksdb_7.8.3-2.dsc
b85408a374770897332bf15e51620a5f35720dd416a4749e3899057f9cfaf84d  rocksdb_7.8.3.orig.tar.gz
4ead930612734d2b79e8f5e72e51659004c5a47f8d6bb90dea8eb42fd6d88a02  rocksdb_7.8.3-2.debian.tar.xz'
dir=$PWD/build/rocksdb

# What the compiler is told. -fno-rtti and -DNDEBUG go for code that includes
# RocksDB's headers too: a subclass of RocksDB's classes compiled with RTTI
# would miss their type information when it is linked.
abi_flags='-std=c++17 -fno-rtti -DNDEBUG'
flags="$abi_flags -O2 -w -pthread
  -msse4.2 -mpclmul -DHAVE_SSE42 -DHAVE_PCLMUL
  -fno-builtin-memcmp
  -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DOS_LINUX
  -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
  -DROCKSDB_PTHREAD_ADAPTIVE_MUTEX -DROCKSDB_MALLOC_USABLE_SIZE
  -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT
  -DSNAPPY -DZLIB -DBZIP2 -DLZ4 -DZSTD"
# Everything static but the C library, so that the program needs none of these
# packages where it runs.
ldflags="$dir/librocksdb.a -static-libgcc -static-libstdc++
  -Wl,-Bstatic -lstdc++ -lsnappy -llz4 -lzstd -lz -lbz2
  -Wl,-Bdynamic -lm -ldl -lpthread"

# One line that changes whenever the library has to be built anew.
stamp() {
  printf '%s\n' "$source_sha256" "$flags" "$(g++ -dumpfullversion)" |
    sha256sum | cut -c -16
}

# Fetches the source package into the current folder. The private settings
# leave /etc/apt and the machine's package lists alone; its proxies and mirrors
# are used. apt checks the package against the archive's signature.
fetch_source() {
  local apt=$PWD/apt
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  source_entries "$apt"
  local options=(-q
    -o "Dir::Etc::SourceList=$apt/sources.list"
    -o "Dir::Etc::SourceParts=$apt/sources.d"
    -o "Dir::State::Lists=$apt/lists"
    -o "Dir::Cache=$apt/cache"
    -o Acquire::Languages=none
    # apt's own user can't write into a folder of ours.
    -o "APT::Sandbox::User=$(id -un)")
  apt-get "${options[@]}" update
  apt-get "${options[@]}" source --download-only "rocksdb=$version"
  sha256sum --check --quiet <<<"$source_sha256" ||
    die "the source package of rocksdb $version is not the one expected"
}

# Writes source entries for the machine's own Debian mirrors, into the folder
# $1: every entry that offers the component main of the suite bookworm, made a
# source entry of that suite.
source_entries() {
  mkdir -p "$1/sources.d"
  local files=() f
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -f "$f" ] || files+=("$f")
  done
  : >"$1/sources.list"
  if [ ${#files[@]} -gt 0 ]; then
    # deb [options] uri suite component…
    sed -nE 's/^deb +((\[[^]]*\] +)?[^ ]+) +bookworm +(.* )?main( .*)?$/deb-src \1 bookworm main/p' \
      "${files[@]}" >"$1/sources.list"
  fi
  for f in /etc/apt/sources.list.d/*.sources; do
    [ -f "$f" ] || continue
    # A paragraph an entry. Comments go first: one may stand for a paragraph's
    # first line.
    sed '/^#/d' "$f" | awk 'BEGIN { RS = ""; FS = "\n" }
      /(^|\n)Types:[^\n]*deb/ && /(^|\n)Suites:([^\n]* )?bookworm( |\n|$)/ &&
      /(^|\n)Components:([^\n]* )?main( |\n|$)/ && !/(^|\n)Enabled: *no/ {
        for (i = 1; i <= NF; i++) {
          if ($i ~ /^Types:/) $i = "Types: deb-src"
          if ($i ~ /^Suites:/) $i = "Suites: bookworm"
          if ($i ~ /^Components:/) $i = "Components: main"
          print $i
        }
        print ""
      }' >"$1/sources.d/$(basename "$f")"
  done
  cat "$1/sources.list" "$1"/sources.d/* 2>/dev/null | grep -q . ||
    die "no apt source of Debian 12 (suite bookworm, component main) in /etc/apt: the library is built from its source package"
}

# Compiles the unpacked source in the folder $1 as one translation unit.
compile() (
  cd "$1"
  sed -e 's/@GIT_SHA@//; s/@GIT_TAG@//; s/@GIT_MOD@/0/; s/@GIT_DATE@//; s/@BUILD_DATE@//' \
    -e 's/@ROCKSDB_PLUGIN_EXTERNS@//; s/@ROCKSDB_PLUGIN_BUILTINS@//' \
    util/build_version.cc.in >util/build_version.cc
  sed -n '/^LIB_SOURCES *=/,/[^\\]$/p' src.mk |
    grep -oE '[a-z0-9_/]+\.cc' | sed 's/.*/#include "&"/' >unity.cc
  # shellcheck disable=SC2086 # a list of flags
  g++ $flags -I. -Iinclude -c unity.cc -o unity.o
)

# In a subshell, for the trap to be its own.
build() (
  [ "$(dpkg --print-architecture)" = amd64 ] ||
    die "the release library's flags are known for amd64 only"
  scripts/deps.sh dpkg-dev
  started=$SECONDS
  tmp=$(mktemp -d "$dir/tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  say "fetching the source of rocksdb $version"
  (
    cd "$tmp"
    fetch_source
    dpkg-source --no-check -x "rocksdb_$version.dsc" source # checked by now
  )
  say "compiling RocksDB (one core, some 4 minutes and 4 GB of memory)"
  compile "$tmp/source"
  rm -rf "$dir/stamp" "$dir/include" "$dir/librocksdb.a"
  ar rcs "$dir/librocksdb.a" "$tmp/source/unity.o"
  mv "$tmp/source/include" "$dir/include"
  stamp >"$dir/stamp"
  say "built build/rocksdb/librocksdb.a in $((SECONDS - started)) s"
)

built() { [ "$(cat "$dir/stamp" 2>/dev/null)" = "$(stamp)" ]; }
if ! built; then
  mkdir -p "$dir"
  (
    flock 9 # one build at a time
    built || build
  ) 9>"$dir/lock"
fi
if [ $# -eq 0 ]; then
  exit
fi

# The stamp among the flags makes the go command build anew after a change of
# the library, whose contents it doesn't look at.
include="-I$dir/include -DROCKSDB_STAMP=$(cat "$dir/stamp")"
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-tags=grocksdb_no_link"
export CGO_CFLAGS="${CGO_CFLAGS:--O2} $include"
export CGO_CXXFLAGS="${CGO_CXXFLAGS:--O2} $abi_flags $include"
export CGO_LDFLAGS="${CGO_LDFLAGS:+$CGO_LDFLAGS }${ldflags//$'\n'/ }"
exec "$@"
