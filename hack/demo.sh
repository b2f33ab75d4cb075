#!/usr/bin/env bash
# make demo: builds examples/six-stage twice with a fresh engine, pushes it to a
# registry on this machine, prints both summaries and checks what they claim.
# Everything it starts ends with it.
set -euo pipefail
cd "$(dirname "$0")/.."

lighter=${LIGHTER:-$PWD/bin/lighter}
work=$(mktemp -d "${TMPDIR:-/tmp}/lighter-demo.XXXXXX")
export LIGHTER_STATE=$work/state
registry_pid=

clean_up() {
  "$lighter" engine stop >/dev/null 2>&1 || true
  if [ -n "$registry_pid" ]; then kill "$registry_pid" 2>/dev/null || true; wait "$registry_pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }
head1() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n== %s\n' "$*"; fi; }
failed=0
check() { # WHAT HOLDS?
  if [ "$2" = true ]; then echo "  ok    $1"; else echo "  FAIL  $1"; failed=1; fi
}

[ -x "$lighter" ] || make build
for need in docker-registry:docker-registry jq:jq curl:curl; do
  command -v "${need%%:*}" >/dev/null || fail "${need%%:*} is not installed: apt-get install ${need#*:}"
done

# Base images. Docker Hub answers an anonymous ping with 401.
contexts=()
if [ "$(curl -s -m 5 -o /dev/null -w '%{http_code}' https://registry-1.docker.io/v2/ || true)" = 401 ]; then
  echo "A public registry answers: base images are busybox:stable and gcc:14-bookworm."
else
  echo "No public registry answers: base images are made from Debian packages."
  gcc=$(hack/base-images.sh gcc)
  busybox=$(hack/base-images.sh busybox)
  contexts=(--build-context "gcc:14-bookworm=oci-layout://$gcc" --build-context "busybox:stable=oci-layout://$busybox")
fi

# A registry on a port that the system picks; its log says which.
cat > "$work/registry.yml" <<YML
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:0"}
YML
docker-registry serve "$work/registry.yml" > "$work/registry.log" 2>&1 &
registry_pid=$!
address=
for _ in $(seq 100); do
  address=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$work/registry.log" | head -n 1)
  [ -z "$address" ] || break
  kill -0 "$registry_pid" 2>/dev/null || fail "the registry ended: $(tail -n 1 "$work/registry.log")"
  sleep 0.1
done
[ -n "$address" ] || fail "the registry does not listen after 10 s"

# Progress and summary are for the reader; the same summary as JSON is what the
# checks below look at.
build() { # NAME
  local before=$EPOCHREALTIME
  "$lighter" build --push -t "$address/demo:$1" ${contexts[@]+"${contexts[@]}"} --force-compression \
    --progress=plain --format=json examples/six-stage 2>&1 > "$work/$1.json" | tee "$work/$1.log" >&2 ||
    fail "build $1 failed"
  seconds=$(jq -n "$EPOCHREALTIME - $before")
}

head1 "First build: six stages, nothing cached"
seconds=
build 1
first=$seconds
head1 "Second build: nothing changed"
build 2
second=$seconds

head1 "What the demo shows"
manifest=$(curl -fsS -H 'Accept: application/vnd.oci.image.manifest.v1+json' -H 'Accept: application/vnd.oci.image.index.v1+json' \
  "http://$address/v2/demo/manifests/1")
if jq -e .manifests <<< "$manifest" >/dev/null; then
  digest=$(jq -r '[.manifests[] | select(.platform.os != "unknown")][0].digest' <<< "$manifest")
  manifest=$(curl -fsS -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$address/v2/demo/manifests/$digest")
fi
image=$(jq '[.layers[].size] | add' <<< "$manifest")
codecs=$(jq -r '[.layers[].mediaType | sub(".*\\+"; "")] | unique | join(", ")' <<< "$manifest")
environment=$(sed -n 's/.*build environment: \([0-9]*\) MB.*/\1/p' "$work/1.log")
overlap=$(jq '[.overlaps[] | select([.a, .b] | sort == ["moon", "sun"]) | .seconds] | add' "$work/1.json")
unused=$(jq '[.stages[] | select(.name == "unused" and .state != "never")] | length' "$work/1.json")
uncached=$(jq '.summary.steps | .total - .cached' "$work/2.json")
same=$(jq -n --slurpfile a "$work/1.json" --slurpfile b "$work/2.json" '$a[0].summary.digest == $b[0].summary.digest')

mb() { jq -nr "$1 / 10000 | round / 100"; }
check "the image has $(mb "$image") MB in its layers, all $codecs (under 20)" "$(jq -n "$image < 20000000")"
check "it came out of a build environment of $environment MB (over 1000)" "$(jq -n "$environment > 1000")"
check "the unused stage never ran" "$(jq -n "$unused == 0")"
check "two tool stages ran at the same time for $(jq -nr "$overlap * 10 | round / 10") s" "$(jq -n "$overlap > 1")"
check "the second build ran $uncached steps anew (0)" "$(jq -n "$uncached == 0")"
check "the second build took $(jq -nr "$second * 100 | round / 100") s, the first $(jq -nr "$first * 10 | round / 10") s (under 2)" "$(jq -n "$second < 2")"
check "both have the same digest" "$same"
exit "$failed"
