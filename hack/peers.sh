#!/usr/bin/env bash
# Newer clients than a stable Debian has (Docker 28 with buildx, podman 5,
# containerd 2, skopeo, buildah, runc, crun) in a Debian root of their own, for
# the tests and benchmarks that read our images with them. Needs root, touches
# nothing outside its directory, and prints that directory.
#
# Made once and kept in $LIGHTER_CACHE (default ~/.cache/lighter-bench).
# hack/in-peers.sh runs a command in it, hack/dockerd.sh a Docker daemon.
set -euo pipefail

suite=sid
packages=podman,buildah,skopeo,umoci,containerd,docker.io,docker-cli,docker-buildx,runc,crun,ca-certificates
cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
dir=$cache/peers-$suite-2 # counted up when the packages change

mkdir -p "$cache"
exec 9>"$cache/peers.lock"
flock 9
rm -rf "$cache"/.peers-tmp.*
if [ ! -d "$dir" ]; then
  [ "$(id -u)" = 0 ] || { echo "peers.sh: needs root, because a daemon will run in there" >&2; exit 1; }
  command -v mmdebstrap >/dev/null || { echo "peers.sh: mmdebstrap is not installed: apt-get install mmdebstrap" >&2; exit 1; }
  echo "peers.sh: installing $packages into $dir (once, about a minute)" >&2
  tmp=$(mktemp -d "$cache/.peers-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  # Mirrors and clocks of test machines lag behind: the release file's date is
  # not held against it, its signature is.
  mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --include="$packages" "$suite" "$tmp/root" </dev/null >&2
  mv "$tmp/root" "$dir"
fi
echo "$dir"
