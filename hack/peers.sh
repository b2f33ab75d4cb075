#!/usr/bin/env bash
# Clients of container images in a Debian root of their own, for the tests and
# benchmarks that read our images with them. Needs root, touches nothing outside
# its directory, and prints that directory.
#
#   hack/peers.sh            newer than a stable Debian has: Docker 28 with buildx,
#                            podman 5, containerd 2, skopeo, buildah, umoci, runc, crun
#   hack/peers.sh bookworm   Debian 12's: Docker 20.10, podman 4.3, containerd 1.6, …
#
# Made once and kept in $LIGHTER_CACHE (default ~/.cache/lighter-bench).
# hack/in-peers.sh runs a command in it, hack/dockerd.sh a Docker daemon.
set -euo pipefail

suite=${1:-sid}
packages=podman,buildah,skopeo,umoci,containerd,docker.io,runc,crun,ca-certificates
case $suite in
  sid) packages+=,docker-cli,docker-buildx ;;
  bookworm) ;;
  *) echo "usage: hack/peers.sh [sid|bookworm]" >&2; exit 2 ;;
esac
cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
dir=$cache/peers-$suite-2 # counted up when the packages change

mkdir -p "$cache"
exec 9>"$cache/peers-$suite.lock"
flock 9
rm -rf "$cache/.peers-$suite-tmp".*
if [ ! -d "$dir" ]; then
  [ "$(id -u)" = 0 ] || { echo "peers.sh: needs root, because a daemon will run in there" >&2; exit 1; }
  command -v mmdebstrap >/dev/null || { echo "peers.sh: mmdebstrap is not installed: apt-get install mmdebstrap" >&2; exit 1; }
  echo "peers.sh: installing $packages into $dir (once, about a minute)" >&2
  tmp=$(mktemp -d "$cache/.peers-$suite-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  # Mirrors and clocks of test machines lag behind: the release file's date is
  # not held against it, its signature is.
  mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --include="$packages" "$suite" "$tmp/root" </dev/null >&2
  mv "$tmp/root" "$dir"
fi
echo "$dir"
