#!/usr/bin/env bash
# The stock BuildKit that make bench compares with: buildkitd and buildctl of
# the version in go.mod, built from its own go.mod. Prints their directory.
#
# Made once and kept in $LIGHTER_CACHE (default ~/.cache/lighter-bench).
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
go mod download github.com/moby/buildkit
read -r version source <<< "$(go list -m -f '{{.Version}} {{.Dir}}' github.com/moby/buildkit)"
dir=$cache/stock-$version

mkdir -p "$cache"
exec 9>"$cache/stock.lock"
flock 9
rm -rf "$cache"/.stock-tmp.*
if [ ! -d "$dir" ]; then
  echo "stock.sh: building BuildKit $version (once, one to five minutes)" >&2
  tmp=$(mktemp -d "$cache/.stock-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  # In its own source tree, because go install refuses a module with exclude
  # lines, and ours must not grow what only its daemon needs. With go test's
  # flags, so that what both need is compiled once.
  (cd "$source" && GOFLAGS=-buildvcs=false go build -o "$tmp/" ./cmd/buildkitd ./cmd/buildctl </dev/null >&2)
  chmod 755 "$tmp"
  mv "$tmp" "$dir"
fi
echo "$dir"
