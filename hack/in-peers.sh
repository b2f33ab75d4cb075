#!/usr/bin/env bash
# Runs a command inside the root that hack/peers.sh made, as root:
#
#   hack/in-peers.sh [-s SUITE] [-b DIR]… COMMAND [ARGUMENT]…
#
# -s bookworm takes Debian 12's root instead of the newer one, -b shows a directory of this machine at the same path in there. The network
# and the processes are this machine's. All mounts live in a mount namespace of
# their own that ends with the command, however it ends; the command keeps this
# process's id, so that a caller can end it by that.
set -euo pipefail

suite=sid
if [ "${1:-}" = -s ]; then
  suite=$2
  shift 2
fi
binds=()
while [ "${1:-}" = -b ]; do
  binds+=("$(realpath "$2")")
  shift 2
done
[ $# -gt 0 ] || { echo "usage: hack/in-peers.sh [-s SUITE] [-b DIR]... COMMAND [ARGUMENT]..." >&2; exit 2; }
root=$("$(dirname "$0")/peers.sh" "$suite")

# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare --mount --propagation private bash -euc '
  root=$1 n=$2; shift 2
  mount --bind "$root" "$root" # Docker refuses a root that is no mount point
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/tmp" # where most of DIR are: no mount point stays behind
  cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
  for ((; n > 0; n--)); do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
  done
  exec env -u TMPDIR HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
' in-peers "$root" ${#binds[@]} ${binds[@]+"${binds[@]}"} "$@"
