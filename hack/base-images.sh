#!/usr/bin/env bash
# Base images for machines that reach no public registry, made from Debian
# packages. Prints the OCI layout of the one that is asked for, to be used as
#   --build-context debian:bookworm=oci-layout://PATH
#
#   hack/base-images.sh busybox   busybox-static and nothing else, 2 MB
#   hack/base-images.sh alpine    what Alpine's image holds, of Debian's packages:
#                                 musl, busybox, OpenSSL's libraries, zlib and
#                                 certificates; 3.9 MB, where Alpine 3.22's is 3.8
#   hack/base-images.sh debian    Debian's minimal base, 120 MB
#   hack/base-images.sh gcc       hack/rootfs.sh's root: gcc and much more, over 1 GB
#
# Made once and kept in $LIGHTER_CACHE (default ~/.cache/lighter-bench).
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
name=${1:-}
layout=$cache/base-$name
tmp=

usage() { echo "usage: hack/base-images.sh busybox|alpine|debian|gcc" >&2; exit 2; }
need() { command -v "$1" >/dev/null || { echo "base-images.sh: $1 is not installed: apt-get install $2" >&2; exit 1; }; }

busybox_root() { # TAR
  need busybox busybox-static
  local bin root=$tmp/root applet
  bin=$(command -v busybox)
  ! readelf -l "$bin" 2>/dev/null | grep -q INTERP || { echo "base-images.sh: $bin is not static: apt-get install busybox-static" >&2; exit 1; }
  mkdir -p "$root"/{bin,etc,tmp,root,home,var/tmp,usr/bin,usr/sbin,sbin}
  chmod 1777 "$root"/tmp "$root"/var/tmp
  cp "$bin" "$root/bin/busybox"
  for applet in $("$bin" --list); do
    [ "$applet" = busybox ] || ln -s /bin/busybox "$root/bin/$applet"
  done
  echo 'root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false' > "$root/etc/passwd"
  echo 'root:x:0:
nogroup:x:65534:' > "$root/etc/group"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$root" -cf "$1" .
}

alpine_root() { # TAR
  local root=$tmp/root deb
  busybox_root "$1"
  (cd "$tmp" && apt-get -q download musl libssl3 zlib1g >&2)
  for deb in "$tmp"/*.deb; do dpkg-deb -x "$deb" "$root"; done
  rm -rf "$root"/usr/share "$root"/usr/lib/*/engines-3 "$root"/usr/lib/*/ossl-modules
  mkdir -p "$root/etc/ssl/certs"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$root" -cf "$1" .
}

debian_root() { # TAR
  need mmdebstrap mmdebstrap
  SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --variant=minbase bookworm "$1" </dev/null >&2
}

case $name in busybox | alpine | debian | gcc) ;; *) usage ;; esac
mkdir -p "$cache"
exec 9>"$cache/base-$name.lock"
flock 9
rm -rf "$cache/.base-$name-tmp".*

if [ ! -d "$layout" ]; then
  echo "base-images.sh: making $name from Debian packages" >&2
  tmp=$(mktemp -d "$cache/.base-$name-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  case $name in
    busybox) busybox_root "$tmp/root.tar" && go run ./hack/mkbase -gzip "$tmp/root.tar" "$layout" ;;
    alpine) alpine_root "$tmp/root.tar" && go run ./hack/mkbase -gzip "$tmp/root.tar" "$layout" ;;
    debian) debian_root "$tmp/root.tar" && go run ./hack/mkbase -gzip -cmd bash "$tmp/root.tar" "$layout" ;;
    gcc) go run ./hack/mkbase -cmd bash "$(hack/rootfs.sh)" "$layout" ;;
  esac
fi
echo "$layout"
