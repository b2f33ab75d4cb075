#!/usr/bin/env bash
# A Docker daemon (from hack/peers.sh) in the foreground, with all of its state
# in DIR and its socket at DIR/docker.sock:
#
#   hack/dockerd.sh DIR               28 or newer, overlay2 store, as 23-28 set up by default
#   hack/dockerd.sh --containerd DIR  containerd's image store, Docker 29's default
#   hack/dockerd.sh --old DIR         20.10
#
# DIR must be short: a socket's path holds 107 bytes. End it with SIGTERM to
# this process; its containerd goes with it. It sets up no bridge and no
# iptables: containers run with --network none or host.
set -euo pipefail

store=false suite=sid
case ${1:-} in
  --containerd) store=true; shift ;;
  --old) suite=bookworm; shift ;;
esac
[ $# = 1 ] || { echo "usage: hack/dockerd.sh [--containerd|--old] DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(realpath "$1")
[ ${#dir} -lt 90 ] || { echo "dockerd.sh: $dir is too long for a socket in it" >&2; exit 2; }

printf '{"features": {"containerd-snapshotter": %s}}\n' "$store" > "$dir/daemon.json"
exec "$(dirname "$0")/in-peers.sh" -s "$suite" -b "$dir" dockerd --config-file "$dir/daemon.json" \
  --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" --host "unix://$dir/docker.sock" \
  --iptables=false --ip6tables=false --bridge=none
