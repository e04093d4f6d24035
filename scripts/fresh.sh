#!/usr/bin/env bash
# Proves that the project builds, shows its demo and passes its tests on a fresh
# Debian 12 that has nothing but Go: makes one by debootstrap, copies the source
# into it, and runs make there. For maintainers; takes root. Arguments go to
# make (demo test). $KEEP=1 leaves the system where it is.
#
# The machine's Go is used, and its downloaded modules stand in front of the
# module proxy. The mounts live in a namespace of their own: they end with the
# script, whatever ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

[ "$(id -u)" = 0 ] || die "making a fresh system takes root"
command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install debootstrap"
if [ "${FRESH_NAMESPACE:-}" = "" ]; then
  FRESH_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

[ $# -gt 0 ] || set -- demo test
mirror=${MIRROR:-http://deb.debian.org/debian}
root=$(mktemp -d "${TMPDIR:-/var/tmp}/accessor-fresh.XXXXXX")
chmod 755 "$root" # for apt's own user
cleanup() {
  umount -R "$root/proc" "$root/dev" "$root/usr/local/go" "$root/modules" 2>/dev/null || true
  [ "${KEEP:-}" = 1 ] || rm -rf --one-file-system "$root"
}
trap cleanup EXIT

say "debootstrap bookworm into $root"
debootstrap --variant=minbase --include=make bookworm "$root" "$mirror" >"$root.log" 2>&1 || {
  tail -n 20 "$root.log" >&2
  die "debootstrap: see $root.log"
}
rm -f "$root.log"

mkdir -p "$root/src" "$root/usr/local/go" "$root/modules"
# The committed and the not yet committed files, without what was built.
git ls-files -z --cached --others --exclude-standard |
  tar --null --files-from - --ignore-failed-read -cf - | tar -C "$root/src" -xf -
cp /etc/resolv.conf /etc/hosts "$root/etc/"
mount --bind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind -o ro "$(go env GOROOT)" "$root/usr/local/go"
mkdir -p "$(go env GOMODCACHE)/cache/download"
mount --bind -o ro "$(go env GOMODCACHE)/cache/download" "$root/modules"

say "make $*, in the fresh system"
started=$SECONDS
chroot "$root" env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
  PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  GOPROXY="file:///modules,$(go env GOPROXY)" \
  http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" no_proxy="${no_proxy:-}" \
  make -C /src "$@"
say "make $*: passed in $((SECONDS - started)) s"
