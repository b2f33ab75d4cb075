#!/usr/bin/env bash
# What a zstd:chunked layer costs, lighter's and Buildah's of the same tar: CPU
# seconds, wall seconds, bytes. Debian's base image where no tar is named; the
# options are hack/chunked's.
#
#   hack/chunked.sh [-rounds N] [-levels 3,6] [-buildah 0,3] [TAR]
#
# Needs root, for hack/peers.sh, and jq.
set -euo pipefail
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if [ $# = 0 ] || [ ! -f "${*: -1}" ]; then
  command -v jq >/dev/null || { echo "chunked.sh: jq is not installed: apt-get install jq" >&2; exit 1; }
  layout=$(hack/base-images.sh debian)
  blob() { echo "$layout/blobs/${1/://}"; }
  manifest=$(blob "$(jq -r '.manifests[0].digest' "$layout/index.json")")
  gzip -dc "$(blob "$(jq -r '.layers[0].digest' "$manifest")")" > "$tmp/layer.tar"
  set -- "$@" "$tmp/layer.tar"
fi
hack/peers.sh >/dev/null
go build -o "$tmp/chunked" ./hack/chunked
"$tmp/chunked" "$@"
