#!/usr/bin/env bash
# A real root file system of 1.0-1.4 GB, from Debian packages: what make bench
# compresses, and the build environment of the demo where no public registry
# answers. Prints the path of what it made.
#
#   hack/rootfs.sh        one tar
#   hack/rootfs.sh dir    the same, unpacked (as root: owners and modes kept)
#
# Made once and kept in $LIGHTER_CACHE (default ~/.cache/lighter-bench).
set -euo pipefail

suite=bookworm
packages=python3-numpy,ffmpeg,nodejs,gcc,g++,libc6-dev,make,git
cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
tar=$cache/rootfs-$suite.tar
dir=$cache/rootfs-$suite

mkdir -p "$cache"
exec 9>"$cache/rootfs.lock"
flock 9
# What a killed run left behind is of no use to this one.
rm -rf "$cache"/.rootfs-tmp.*

if [ ! -e "$tar" ]; then
  command -v mmdebstrap >/dev/null || { echo "rootfs.sh: mmdebstrap is not installed: apt-get install mmdebstrap" >&2; exit 1; }
  tmp=$(mktemp -d "$cache/.rootfs-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  echo "rootfs.sh: making a Debian root with $packages (once, about two minutes)" >&2
  # The epoch makes the bytes depend on the package versions only.
  SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --variant=minbase --include="$packages" \
    "$suite" "$tmp/rootfs.tar" </dev/null >&2
  mv "$tmp/rootfs.tar" "$tar"
  rm -r "$tmp"
fi

made=$tar
if [ "${1:-tar}" = dir ]; then
  if [ ! -d "$dir" ]; then
    tmp=$(mktemp -d "$cache/.rootfs-tmp.XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    tar --numeric-owner --exclude='./dev/*' -xpf "$tar" -C "$tmp"
    chmod 755 "$tmp"
    mv "$tmp" "$dir"
  fi
  made=$dir
fi

echo "rootfs.sh: $made, $(($(stat -c %s "$tar") / 1000000)) MB as one tar" >&2
echo "$made"
