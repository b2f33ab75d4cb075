#!/usr/bin/env bash
# ko, which make bench compares with, at a version of which is known what it
# does. Prints its path. Made once and kept in $LIGHTER_CACHE (default
# ~/.cache/lighter-bench).
set -euo pipefail

version=v0.19.1
cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
dir=$cache/ko-$version

mkdir -p "$cache"
exec 9>"$cache/ko.lock"
flock 9
rm -rf "$cache"/.ko-tmp.*
if [ ! -d "$dir" ]; then
  echo "ko.sh: building ko $version (once, one to five minutes)" >&2
  tmp=$(mktemp -d "$cache/.ko-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  (cd / && GOBIN=$tmp go install "github.com/google/ko@$version" </dev/null >&2) # away from any go.mod
  chmod 755 "$tmp"
  mv "$tmp" "$dir"
fi
echo "$dir/ko"
