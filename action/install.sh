#!/usr/bin/env bash
# Puts a release of lighter into the PATH of the steps that follow. The archive
# is named and proven by the release's own checksums.txt. LIGHTER_RELEASES is
# where releases are, for machines that have a copy.
set -euo pipefail

releases=${LIGHTER_RELEASES:-https://github.com/lighter-oci/lighter/releases}
version=${INPUT_VERSION:-}

die() { printf '::error::lighter: %s\n' "$*"; exit 1; }

# Hosted runners forbid what an engine without root lives on; they are thrown
# away after the job. Elsewhere lighter doctor says what to do.
restricted=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
if [ "${RUNNER_ENVIRONMENT:-}" = github-hosted ] && [ "$(cat "$restricted" 2>/dev/null)" = 1 ]; then
  sudo sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0
fi

if [ -z "$version" ]; then # an action that is pinned to a release brings that one
  version=latest
  [[ ! ${ACTION_REF:-} =~ ^v[0-9]+\.[0-9]+\.[0-9]+ ]] || version=$ACTION_REF
fi
case $version in
  none) lighter version; exit ;;
  latest) from=$releases/latest/download ;;
  *) from=$releases/download/v${version#v} ;;
esac

case $(uname -s) in
  Linux) os=linux ;;
  Darwin) os=darwin ;;
  *) die "this action runs on Linux and macOS, not on $(uname -s)" ;;
esac
case $(uname -m) in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) die "there is no release for $(uname -m)" ;;
esac

dir=$(mktemp -d "${RUNNER_TEMP:-/tmp}/lighter.XXXXXX")
cd "$dir"
fetch() { curl -fsSL --retry 3 -O "$from/$1" || die "cannot fetch $from/$1: is there such a release?"; }
fetch checksums.txt
archive=$(sed -n "s/^[0-9a-f]\{64\} [ *]\(lighter_[^/]*_${os}_${arch}\.tar\.gz\)\$/\1/p" checksums.txt)
[ -n "$archive" ] || die "$from has nothing for $os/$arch"
fetch "$archive"
if command -v sha256sum >/dev/null; then sum=(sha256sum); else sum=(shasum -a 256); fi
grep -F "  $archive" checksums.txt | "${sum[@]}" -c - >/dev/null || die "$archive is not what checksums.txt says: nothing was installed"
mkdir bin
tar -xzf "$archive" -C bin lighter
printf '%s\n' "$dir/bin" >> "${GITHUB_PATH:?}"
bin/lighter version
