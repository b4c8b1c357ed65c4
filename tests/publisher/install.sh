#!/usr/bin/env bash
# install.sh: a Python with the packages pinned beside this script, for the publisher and the history service of the
# tests. What is up to date stays. Progress on stderr; the last line of stdout is the interpreter.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}
venv=$cache/publisher stamp=$cache/publisher/.sha256

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# Debian has what a virtual environment begins with in a package of its own.
python3 -c 'import ensurepip' 2>/dev/null || "$here/../cluster/packages.sh" tests
mkdir -p "$cache"
exec 9>"$cache/.publisher.lock"
flock 9
inputs=$({ python3 -VV; cat "$here/requirements.txt" "$here/sources.txt"; printf '%s\n' "$venv"; } | sha256sum)
if [[ ! -x $venv/bin/python || ! -f $stamp || $(<"$stamp") != "$inputs" ]]; then
  printf 'installing the publisher of the tests\n' >&2
  rm -rf "$venv"
  python3 -m venv "$venv" >&2 || die "python3 makes no virtual environment"
  # All that they need is in the list.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
    --requirement "$here/requirements.txt" >&2 || die "the packages of requirements.txt can not be had"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation \
    --requirement "$here/sources.txt" >&2 || die "the packages of sources.txt can not be had"
  "$venv/bin/pip" check >&2 || die "requirements.txt and sources.txt lack a package"
  printf '%s\n' "$inputs" >"$stamp"
fi
printf '%s\n' "$venv/bin/python"
