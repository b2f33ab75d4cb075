#!/usr/bin/env bash
# What make bench runs, on a real root file system, with directories and a registry of
# its own: stock BuildKit and lighter in turn, then skopeo and lighter; with -what
# mounts, tar | zstd and a cache mount, which needs none of the others and 2 GB; with
# -what caches, builds on empty machines with and without caches; with -what pack,
# lighter pack against Dockerfiles and ko, which needs Debian's rustc and cargo; with
# -what kitchen, the dashboard, which needs Chromium; with -what log, a log of 100 MB.
# Needs root and 15 GB of room in $TMPDIR; takes about three minutes a round. Arguments
# go to hack/bench: hack/bench.sh -rounds 3 -what convert.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "bench.sh: needs root, as stock buildkitd does" >&2; exit 1; }
command -v docker-registry >/dev/null || { echo "bench.sh: docker-registry is not installed: apt-get install docker-registry" >&2; exit 1; }
make --no-print-directory build
case " $* " in *" -what mounts "* | *" -what caches "* | *" -what pack "* | *" -what kitchen "* | *" -what log "*) exec go run ./hack/bench "$@" ;; esac
rootfs=$(hack/rootfs.sh)
stock=$(hack/stock.sh)
exec go run ./hack/bench -rootfs "$rootfs" -stock "$stock" -lighter bin/lighter "$@"
