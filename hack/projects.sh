#!/usr/bin/env bash
# Real projects that make bench compiles, here and in a builder image. Prints a
# directory with src, the project; base, an OCI layout of an image that has its
# compiler; version, which one that is; and of Go's, proxy, the modules that the
# project needs.
#
#   hack/projects.sh go     Miniflux, a server of 85,000 lines with 31 modules
#   hack/projects.sh rust   ripgrep and the 63 crates that it names, as Debian has
#                           them, in vendor/; needs Debian's rustc and cargo here
#
# Made once and kept in $LIGHTER_CACHE (default ~/.cache/lighter-bench).
set -euo pipefail
cd "$(dirname "$0")/.."

miniflux=v2.3.5
suite=bookworm
cache=${LIGHTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lighter-bench}
tmp=

usage() { echo "usage: hack/projects.sh go|rust" >&2; exit 2; }
need() { command -v "$1" >/dev/null || { echo "projects.sh: $1 is not installed: apt-get install $2" >&2; exit 1; }; }

go_project() { # DIR
  need mmdebstrap mmdebstrap
  local got
  GOMODCACHE=$tmp/mod go mod download "miniflux.app/v2@$miniflux" >&2
  cp -r "$tmp/mod/miniflux.app/v2@$miniflux" "$1/src"
  chmod -R u+w "$1/src"
  (cd "$1/src" && GOMODCACHE=$tmp/mod go mod download >&2)
  mv "$tmp/mod/cache/download" "$1/proxy"
  chmod -R u+w "$tmp/mod"
  got=$(go env GOROOT)
  go env GOVERSION >"$1/version"
  SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --variant=minbase "$suite" "$tmp/root.tar" </dev/null >&2
  tar -rf "$tmp/root.tar" --owner=0 --group=0 --transform "s#^\.#./usr/local/go#" --exclude=./test --exclude=./doc -C "$got" .
  go run ./hack/mkbase -cmd bash "$tmp/root.tar" "$1/base"
}

# The crates are Debian's, which has them as directories that cargo reads; of the
# program itself it has the source.
rust_project() { # DIR
  need mmdebstrap mmdebstrap
  need /usr/bin/cargo cargo
  local crates
  crates=$(printf ',librust-%s-dev' grep ignore bstr clap-2 lazy-static log num-cpus regex serde-json serde serde-derive termcolor walkdir)
  mkdir "$tmp/source"
  # shellcheck disable=SC2016 # the hook is for another shell
  SOURCE_DATE_EPOCH=1700000000 HERE=$tmp/source mmdebstrap --quiet --variant=minbase --include="rustc,cargo$crates" \
    --customize-hook='sed -n "s/^deb /deb-src /p" "$1"/etc/apt/sources.list >"$1"/etc/apt/sources.list.d/src.list' \
    --customize-hook='export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG; apt-get -q update && cd "$HERE" && apt-get -q source --download-only rust-ripgrep' \
    --customize-hook='rm "$1"/etc/apt/sources.list.d/src.list' \
    "$suite" "$tmp/root.tar" </dev/null >&2
  mkdir "$1/src" "$tmp/crates"
  tar -xzf "$tmp"/source/rust-ripgrep_*.orig.tar.gz --strip-components=1 -C "$1/src"
  tar -xOf "$tmp/root.tar" ./var/lib/dpkg/status | awk '$1 == "Package:" { p = $2 } p == "rustc" && $1 == "Version:" { sub(/[+~-].*/, "", $2); print "rustc " $2 }' >"$1/version"
  tar -xf "$tmp/root.tar" -C "$tmp/crates" --strip-components=5 ./usr/share/cargo/registry
  tar --delete -f "$tmp/root.tar" ./usr/share/cargo/registry
  rust_vendor "$1/src"
  go run ./hack/mkbase -cmd bash "$tmp/root.tar" "$1/base"
}

# rust_vendor leaves what the lock file names, as cargo vendor would.
rust_vendor() { # SRC
  local name
  # Debian has neither the allocator for musl nor a feature for nightly Rust; and
  # debug information in a release is ripgrep's own choice, which few share.
  sed -i '/^\[target\..*jemallocator\]/,/^$/d; /^simd-accel/d; /^\[profile.release\]/,/^$/d' "$1/Cargo.toml"
  mkdir -p "$1/.cargo" "$1/vendor"
  rm -f "$1/Cargo.lock" "$1"/.cargo/*
  printf '[source.crates-io]\nreplace-with = "vendored"\n\n[source.vendored]\ndirectory = "%s"\n' "$tmp/crates" >"$1/.cargo/config.toml"
  (cd "$1" && PATH=/usr/bin:$PATH cargo generate-lockfile --offline >&2)
  awk '$1 == "name" { name = $3 } $1 == "version" { print name "-" $3 }' "$1/Cargo.lock" | tr -d '"' |
    while read -r name; do
      [ ! -d "$tmp/crates/$name" ] || cp -rL "$tmp/crates/$name" "$1/vendor/"
    done
  sed -i 's/^directory = .*/directory = "vendor"/' "$1/.cargo/config.toml"
}

case ${1:-} in
  go) dir=$cache/project-go-$miniflux-$(go env GOVERSION) ;;
  rust) dir=$cache/project-rust-$suite ;;
  *) usage ;;
esac
mkdir -p "$cache"
exec 9>"$cache/project-$1.lock"
flock 9
rm -rf "$cache/.project-$1-tmp".*
if [ ! -d "$dir" ]; then
  echo "projects.sh: fetching the $1 project and its builder image (once, one to three minutes)" >&2
  tmp=$(mktemp -d "$cache/.project-$1-tmp.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  mkdir "$tmp/made"
  "$1_project" "$tmp/made"
  chmod 755 "$tmp/made"
  mv "$tmp/made" "$dir"
fi
echo "$dir"
