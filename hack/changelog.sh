#!/usr/bin/env bash
# Merges changelog/unreleased/*.md, one file a change, into CHANGELOG.md:
#
#   hack/changelog.sh          rewrites the section "Unreleased"
#   hack/changelog.sh --check  fails where that would change something
#   hack/changelog.sh 0.1.0    names the section 0.1.0, moves the files to
#                              changelog/0.1.0 and opens a new section
set -euo pipefail
cd "$(dirname "$0")/.."

section() { # HEADING DIR
  printf '## %s\n' "$1"
  local file
  for file in "$2"/*.md; do
    [ -e "$file" ] || continue
    printf '\n* %s\n' "$(head -n 1 "$file")"
    tail -n +2 "$file" | sed 's/^./    &/'
  done
}

tmp=$(mktemp CHANGELOG.XXXXXX)
trap 'rm -f "$tmp"' EXIT
chmod 644 "$tmp"
above() { sed '/^## Unreleased$/,$d' CHANGELOG.md; }
below() { awk '/^## /{ n++ } n > 1' CHANGELOG.md; }

case ${1:-} in
  "" | --check)
    { above; section Unreleased changelog/unreleased; below | sed '1s/^/\n/'; } > "$tmp"
    if [ "${1:-}" = --check ]; then
      diff -u CHANGELOG.md "$tmp" || { echo "changelog.sh: CHANGELOG.md is behind changelog/unreleased: run hack/changelog.sh" >&2; exit 1; }
      exit
    fi
    ;;
  [0-9]*)
    { above; printf '## Unreleased\n\n'; section "$1 ($(date -u +%F))" changelog/unreleased; below | sed '1s/^/\n/'; } > "$tmp"
    mkdir -p "changelog/$1"
    git mv changelog/unreleased/*.md "changelog/$1/"
    ;;
  *) echo "usage: hack/changelog.sh [--check|VERSION]" >&2; exit 2 ;;
esac
mv "$tmp" CHANGELOG.md
