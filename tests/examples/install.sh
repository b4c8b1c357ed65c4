#!/usr/bin/env bash
# install.sh: what the examples of publishing need, as each of them pins it: packages of npm, Go modules, a jar of Maven
# Central. What is up to date stays. Progress on stderr.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=$here/../../examples/publish
cache=${SSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sse-gateway}/examples

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

"$here/../cluster/packages.sh" tests
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
inputs=$({ node --version; cat "$examples"/javascript/package*.json; } | sha256sum)
if [[ ! -f $examples/javascript/node_modules/.inputs || $(<"$examples/javascript/node_modules/.inputs") != "$inputs" ]]; then
  printf 'installing what the examples publish with\n' >&2
  (cd "$examples/javascript" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2 || die "npm could not install package-lock.json"
  printf '%s\n' "$inputs" >"$examples/javascript/node_modules/.inputs"
fi
# Built here, so that its first run is not the one that a test waits for.
(cd "$examples/go" && go build -o /dev/null .) >&2 || die "the example in Go does not build"
"$examples/java/jnats.sh" "$cache" >/dev/null || die "the jar can not be had"
