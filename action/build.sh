#!/usr/bin/env bash
# Runs lighter build with the inputs of action.yml, which come as variables
# INPUT_NAME, and writes what came of it to the file GITHUB_OUTPUT names.
set -euo pipefail

args=(build)

die() { printf '::error::lighter: %s\n' "$*"; exit 2; }

# value FLAG NAME: the flag, where the input is not empty.
value() { [ -z "${!2:-}" ] || args+=("$1=${!2}"); }

# switch FLAG NAME: the flag, where the input is true.
switch() {
  case ${!2:-false} in
    true) args+=("$1") ;;
    false) ;;
    *) die "${2#INPUT_}: want true or false, not ${!2}" ;;
  esac
}

# records NAME: sets the array of that name's entries, one a line. One that
# begins with a double quote goes on to the line that ends with one; "" in it is
# a quote, as in CSV.
records() {
  local line entry='' open=''
  entries=()
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%$'\r'}
    if [ -z "$open" ]; then
      line=${line#"${line%%[![:space:]]*}"} line=${line%"${line##*[![:space:]]}"}
      [ -n "$line" ] || continue
      case $line in
        '"'*) open=1 entry='' line=${line:1} ;;
        *) entries+=("$line"); continue ;;
      esac
    fi
    local quotes=${line##*[!\"]} # at its end: an odd number of them closes
    if [ $((${#quotes} % 2)) = 1 ]; then
      entry+=${line%\"}
      entries+=("${entry//\"\"/\"}")
      open=''
    else
      entry+=$line$'\n'
    fi
  done <<< "${!1:-}"
  [ -z "$open" ] || die "${1#INPUT_}: a double quote is left open"
}

# lines FLAG NAME: the flag for each entry.
lines() {
  local entry
  records "$2"
  for entry in ${entries[@]+"${entries[@]}"}; do args+=("$1=$entry"); done
}

# commas FLAG NAME: the flag for each part of each entry.
commas() {
  local entry part parts
  records "$2"
  for entry in ${entries[@]+"${entries[@]}"}; do
    IFS=, read -ra parts <<< "$entry"
    for part in ${parts[@]+"${parts[@]}"}; do
      part=${part//[[:space:]]/}
      [ -z "$part" ] || args+=("$1=$part")
    done
  done
}

# from KIND ID=SOURCE: a secret from a file (src) or variable (env).
from() {
  [[ $2 == ?*=?* ]] || die "SECRET_FILES and SECRET_ENVS: want ID=SOURCE, not $2"
  local source=${2#*=}
  args+=("--secret=id=${2%%=*},\"$1=${source//\"/\"\"}\"")
}

secrets() {
  local entry i=0
  records INPUT_SECRETS
  for entry in ${entries[@]+"${entries[@]}"}; do
    [[ $entry == ?*=?* ]] || die "SECRETS: want ID=VALUE, one a line" # and not a word of it
    export "LIGHTER_SECRET_$i=${entry#*=}"
    from env "${entry%%=*}=LIGHTER_SECRET_$i"
    i=$((i + 1))
  done
  records INPUT_SECRET_FILES
  for entry in ${entries[@]+"${entries[@]}"}; do from src "$entry"; done
  records INPUT_SECRET_ENVS
  for entry in ${entries[@]+"${entries[@]}"}; do
    IFS=, read -ra parts <<< "$entry"
    for part in "${parts[@]}"; do from env "${part//[[:space:]]/}"; done
  done
  case ${INPUT_CONTEXT:-} in
    *://* | git@*) [ -z "${INPUT_GITHUB_TOKEN:-}" ] || from env GIT_AUTH_TOKEN=INPUT_GITHUB_TOKEN ;;
  esac
}

value  --file            INPUT_FILE
value  --project         INPUT_PROJECT
value  --variant         INPUT_VARIANT
value  --target          INPUT_TARGET
commas --platform        INPUT_PLATFORMS
commas --tag             INPUT_TAGS
lines  --label           INPUT_LABELS
lines  --annotation      INPUT_ANNOTATIONS
lines  --build-arg       INPUT_BUILD_ARGS
lines  --build-context   INPUT_BUILD_CONTEXTS
value  --call            INPUT_CALL
secrets
lines  --ssh             INPUT_SSH
commas --add-host        INPUT_ADD_HOSTS
commas --allow           INPUT_ALLOW
value  --network         INPUT_NETWORK
value  --shm-size        INPUT_SHM_SIZE
commas --ulimit          INPUT_ULIMIT
value  --cgroup-parent   INPUT_CGROUP_PARENT
switch --push            INPUT_PUSH
switch --load            INPUT_LOAD
lines  --output          INPUT_OUTPUTS
value  --compression     INPUT_COMPRESSION
commas --add-compression INPUT_ADD_COMPRESSION
switch --force-compression INPUT_FORCE_COMPRESSION
value  --cache           INPUT_CACHE
value  --cache-mounts-from INPUT_CACHE_MOUNTS_FROM
value  --cache-mounts-to INPUT_CACHE_MOUNTS_TO
lines  --cache-from      INPUT_CACHE_FROM
lines  --cache-to        INPUT_CACHE_TO
switch --no-cache        INPUT_NO_CACHE
commas --no-cache-filter INPUT_NO_CACHE_FILTERS
switch --pull            INPUT_PULL
lines  --attest          INPUT_ATTESTS
value  --provenance      INPUT_PROVENANCE
value  --sbom            INPUT_SBOM
value  --engine          INPUT_ENGINE

# described tells whether a file says what the context is.
described() {
  case ${INPUT_PROJECT:-} in
    none) return 1 ;;
    '') [ -e lighter.toml ] || [ -e docker-bake.hcl ] || [ -e docker-bake.json ] ;;
  esac
}

# Without one the context is the workspace, as nobody says another.
if [ -n "${INPUT_CONTEXT:-}" ]; then
  args+=(-- "$INPUT_CONTEXT")
elif ! described; then
  args+=(-- .)
fi

metadata=$(mktemp "${RUNNER_TEMP:-/tmp}/lighter-metadata.XXXXXX")
trap 'rm -f "$metadata"' EXIT
code=0
lighter build "--metadata-file=$metadata" "${args[@]:1}" || code=$?

# field NAME: of the JSON, which has one a line.
field() { sed -n 's/^  "'"${1//./\\.}"'": "\([^"]*\)",\{0,1\}$/\1/p' "$metadata"; }
if [ -s "$metadata" ]; then # also where the proof failed: the image is there
  digest=$(field containerimage.digest)
  id=$(field containerimage.config.digest)
  {
    printf 'digest=%s\nimageid=%s\n' "$digest" "${id:-$digest}"
    printf 'metadata<<lighter-metadata\n'
    cat "$metadata"
    printf 'lighter-metadata\n'
  } >> "${GITHUB_OUTPUT:-/dev/null}"
fi
exit "$code"
