#!/usr/bin/env bash
# install.sh: what reads the contracts for machines, docs/openapi.yaml and docs/asyncapi.yaml: packages of npm and PyPI,
# pinned beside this script. What is up to date stays. Progress on stderr; the last line of stdout is their folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}
folder=$cache/contracts

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

"$here/../cluster/packages.sh" tests
mkdir -p "$cache"
exec 9>"$cache/.contracts.lock"
flock 9
inputs=$({ node --version; python3 -VV; cat "$here"/package*.json "$here/requirements.txt"; printf '%s\n' "$folder"; } | sha256sum)
if [[ ! -f $folder/.sha256 || $(<"$folder/.sha256") != "$inputs" ]]; then
  printf 'installing what reads the contracts\n' >&2
  rm -rf "$folder"
  mkdir "$folder"
  cp "$here"/package*.json "$folder"
  (cd "$folder" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2 || die "npm could not install package-lock.json"
  python3 -m venv "$folder/python" >&2 || die "python3 makes no virtual environment"
  # All that they need is in the list.
  "$folder/python/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    --requirement "$here/requirements.txt" >&2 || die "the packages of requirements.txt can not be had"
  "$folder/python/bin/pip" check >&2 || die "requirements.txt lacks a package"
  printf '%s\n' "$inputs" >"$folder/.sha256"
fi
printf '%s\n' "$folder"
