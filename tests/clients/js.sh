#!/usr/bin/env bash
# js.sh: builds the client for browsers, measures it, and runs its own tests. The tests of the gateway run what it built.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
client=$here/../../clients/js

die() { printf 'js.sh: %s\n' "$*" >&2; exit 1; }

"$here/../cluster/packages.sh" tests
cd "$client"
exec 9>.lock
flock 9
inputs=$({ node --version; cat package.json package-lock.json; } | sha256sum)
if [[ ! -f node_modules/.inputs || $(<node_modules/.inputs) != "$inputs" ]]; then
  npm ci --silent --ignore-scripts --no-audit --no-fund || die "npm could not install package-lock.json"
  printf '%s\n' "$inputs" >node_modules/.inputs
fi
npm run --silent build
npm test --silent
